"""What a network has learned: pictures of it, and figures that test the pictures."""
