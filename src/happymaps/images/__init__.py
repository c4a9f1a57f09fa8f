"""Pixels in, pixels out: decoding, frames of videos, crops."""
