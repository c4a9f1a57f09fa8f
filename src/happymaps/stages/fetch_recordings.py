"""Bring the recorded people's videos here."""

from happymaps.errors import exit_on_error
from happymaps.files import replacing_folder, write_json
from happymaps.params import Params
from happymaps.sources import recordings
from happymaps.stages.layout import METRICS, RAW


def main() -> None:
    """Write data/raw/recordings and its counts."""
    wanted = Params.load().recordings
    with replacing_folder(RAW / "recordings") as folder:
        for recording in wanted:
            origin = recordings.fetch(recording, folder, fetched_before=RAW / "recordings")
            terms = recording.terms or ("your own" if recording.path else "terms not given")
            print(f"{recording.subject}: from the {origin} ({terms})")
        size = sum(path.stat().st_size for path in folder.iterdir())
    write_json(METRICS / "fetch_recordings.json", {"recordings": len(wanted), "bytes": size})


if __name__ == "__main__":
    exit_on_error(main)
