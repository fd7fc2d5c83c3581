"""The record: one JSON file for each run, date and processor in its name, and the same as Markdown."""

import json
import sys
from pathlib import Path

from . import machine, table


def new(ours, settings):
    return {
        **machine.source(),
        **machine.processor(),
        "threads": settings.threads,
        "limited_to": "AVX2" if settings.avx2 else None,
        "versions": {"densenet": ours.version(), **machine.versions(), **settings.rival_versions},
        "rounds": settings.rounds,
        "load_average_before": machine.load_average(),
    }


def heading(record):
    about = f"{record['processor']} (family {record['family']}, model {record['model']}), {record['kernel']}"
    sets = " ".join(record["instruction_sets"])
    limited = f", limited to {record['limited_to']}" if record["limited_to"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    changed = " with changes" if record["changed_files"] else ""
    return [
        f"{record['date']}, commit {record['commit']}{changed}, {record['threads']} threads{limited}",
        "",
        f"{about}: {sets}",
        "",
        versions,
        "",
    ]


def markdown(record):
    lines = heading(record)
    for note in record.get("notes", []):
        lines += [note, ""]
    if rows := record.get("inference"):
        lines += table.targets(rows) + [""] + table.all_times(rows) + [""] + table.errors(rows) + [""]
        lines += table.absences(rows) + [""]
    for part in ("one_shot", "scaling", "training", "depth"):
        if found := record.get(part):
            lines += found["table"] + [""]
    return "\n".join(lines)


def save(record, folder, suffix):
    """Writes NAME.json and NAME.md; a day's further runs are numbered from 2 on."""
    slug = "-".join("".join(c if c.isalnum() else " " for c in record["processor"].lower()).split())
    name = Path(folder) / f"{record['date']}-{slug}-{suffix}"
    number = 2
    while name.with_suffix(".json").exists():
        name = name.with_name(f"{record['date']}-{slug}-{suffix}-{number}")
        number += 1
    name.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    name.with_suffix(".md").write_text(markdown(record))
    print(name.with_suffix(".json"), name.with_suffix(".md"), file=sys.stderr)
