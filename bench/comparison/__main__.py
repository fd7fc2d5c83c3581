"""`bench/compare`: which cases, in which order, and what becomes of the figures."""

import shutil
import signal
import sys
from pathlib import Path

from . import cases, inference, isa, oneshot, options, record, scaling, training
from .inference import Disagreement
from .models import Models
from .ours import Ours, Refused


def main():
    arguments = options.parse()
    # A stopped worker would outlive us: leave by the `finally` below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = options.settings(arguments)
    ours = Ours(arguments.binary, options.ours_environment(arguments))
    options.busy()
    if not settings.avx2 and ours.offers_bf16():
        settings.precisions = {"f32", "bf16"}
    document = record.new(ours, settings)
    models = Models(Path(arguments.cache).resolve(), ours, settings.threads, arguments.fresh)
    try:
        if settings.avx2:
            isa.limit(settings)
        if arguments.train:
            train(document, models, ours, settings, arguments.only)
        else:
            predict(document, models, ours, settings, arguments.only)
    except (Disagreement, Refused) as error:
        sys.exit(f"error: {error}")
    finally:
        shutil.rmtree(settings.scratch, ignore_errors=True)
    print(record.markdown(document))
    if arguments.record:
        suffix = "training" if arguments.train else "inference"
        record.save(document, "bench/records", suffix + ("-avx2" if settings.avx2 else ""))


def predict(document, models, ours, settings, only):
    document["inference"] = []
    for case in options.wanted(cases.INFERENCE, only):
        progress(case.name)
        document["inference"].append(inference.run(case, models, ours, settings))
    if settings.avx2:
        document["notes"] = isa.notes(document["inference"])
        return
    if found := options.wanted(cases.ONE_SHOT, only):
        progress("one prediction in a process of its own")
        document["one_shot"] = oneshot.run(found, models, ours, settings)
    if found := options.wanted(cases.SCALING, only):
        progress("one thread and two")
        document["scaling"] = scaling.run(found, models, ours, settings)


def train(document, models, ours, settings, only):
    from .cases import DEPTH, TRAINING

    if found := options.wanted(TRAINING, only):
        document["training"] = training.run(found, models, ours, settings, progress)
    if found := options.wanted(DEPTH, only):
        document["depth"] = training.depth(found, models, ours, settings, progress)


def progress(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
