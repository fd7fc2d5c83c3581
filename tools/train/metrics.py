"""Writes crates/densenet-train/tests/golden/metrics.json: what scikit-learn makes of the scores of small cases.

Run from the repository's root with what requirements.txt names:

    python tools/train/metrics.py

Logits come from the generator of golden.py, on a coarse grid so that many probabilities tie. The bootstrap draws with the
same Philox numbers as the Rust code, resamples the samples themselves, and asks scikit-learn for every score anew.
"""

import json
import pathlib
import warnings

import numpy as np
import sklearn
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

OUT = pathlib.Path("crates/densenet-train/tests/golden/metrics.json")
BINS = 15
RESAMPLES = 200
TAG = 0x626F6F74
MASK = 0xFFFFFFFF


def values(seed, n, scale):
    state, out = seed, []
    for _ in range(n):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(((state >> 21) / 1024.0 - 1.0) * scale)
    return out


def philox(key, counter):
    """Philox4x32-10 (Salmon et al. 2011)."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def resample(seed, number, labels, groups):
    """Positions of one resample: units of a class are drawn among themselves, groups of several classes likewise."""
    units = {}
    for i in range(len(labels)):
        units.setdefault(i if groups is None else groups[i], []).append(i)
    strata = {}
    for _, unit in sorted(units.items()):
        classes = {labels[i] for i in unit}
        strata.setdefault(classes.pop() if len(classes) == 1 else MASK, []).append(unit)
    chosen = []
    for s, (_, members) in enumerate(sorted(strata.items())):
        for i in range(len(members)):
            block = philox((seed & MASK, seed >> 32), (i, s, number, TAG))
            chosen += members[((block[0] | block[1] << 32) * len(members)) >> 64]
    return np.array(chosen)


def per_class(labels, answers, classes):
    """Precision, recall and F1 with None where the denominator is 0."""
    matrix = confusion_matrix(labels, answers, labels=range(classes))
    p, r, f, support = precision_recall_fscore_support(labels, answers, labels=range(classes), zero_division=np.nan)
    called = matrix.sum(0)
    clean = lambda v, known: [float(x) if k else None for x, k in zip(v, known)]
    return clean(p, called > 0), clean(r, support > 0), clean(f, called + support > 0)


def area(labels, scores, c):
    positive = labels == c
    return float(roc_auc_score(positive, scores)) if 0 < positive.sum() < len(labels) else None


def mean(row):
    known = [v for v in row if v is not None]
    return float(np.mean(known)) if known else None


def scores(labels, answers, p):
    classes = p.shape[1]
    precision, recall, f1 = per_class(labels, answers, classes)
    auroc = [area(labels, p[:, c], c) for c in range(classes)]
    return {
        "accuracy": float(accuracy_score(labels, answers)),
        "balanced_accuracy": mean(recall),
        "macro_f1": mean(f1),
        "macro_auroc": mean(auroc),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auroc": auroc,
    }


def interval(column):
    """The middle 95 %, None where half of the resamples have no score."""
    known = [v for v in column if v is not None]
    if 2 * len(known) < len(column) or not known:
        return None
    return np.percentile(known, [2.5, 97.5]).tolist()


def intervals(seed, labels, answers, p, groups):
    rows = []
    for number in range(RESAMPLES):
        chosen = resample(seed, number, labels.tolist(), groups)
        rows.append(scores(labels[chosen], answers[chosen], p[chosen]))
    out = {}
    for name, value in rows[0].items():
        column = [row[name] for row in rows]
        out[name] = [interval(c) for c in zip(*column)] if isinstance(value, list) else interval(column)
    return out


def calibration(labels, answers, p):
    confidence = p[np.arange(len(p)), answers].astype(np.float64)
    right = (answers == labels).astype(int)
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=BINS, strategy="uniform")
    counts = np.histogram(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence), np.arange(BINS + 1))[0]
    counts = counts[counts > 0]
    gaps = np.abs(accuracy - mean_confidence)
    return {
        "accuracy": accuracy.tolist(),
        "confidence": mean_confidence.tolist(),
        "samples": counts.tolist(),
        "ece": float((counts / counts.sum() * gaps).sum()),
        "mce": float(gaps.max()),
        # In f64: as f32, scikit-learn would find that a row does not sum to 1.
        "brier": float(brier_score_loss(labels, p.astype(np.float64), labels=range(p.shape[1]), scale_by_half=False)),
    }


def curves(labels, p):
    out = []
    for c in range(p.shape[1]):
        positive = labels == c
        if not positive.any():
            out.append(None)
            continue
        fpr, tpr, _ = roc_curve(positive, p[:, c], drop_intermediate=False)
        precision, recall, _ = precision_recall_curve(positive, p[:, c])
        out.append({
            "fpr": fpr.tolist(),
            "tpr": tpr.tolist(),
            "precision": precision[::-1].tolist(),
            "recall": recall[::-1].tolist(),
            "average_precision": float(average_precision_score(positive, p[:, c])),
        })
    return out


def case(seed, samples, classes, present, group_size):
    """`present` classes of all have samples; the logit of the true class is raised, so that answers are often right."""
    logits = np.round(np.array(values(seed, samples * classes, 2.0)) * 4).reshape(samples, classes) / 4
    labels = np.array([i * i % present for i in range(samples)])
    logits[np.arange(samples), labels] += 1.0
    exp = np.exp(logits - logits.max(1, keepdims=True))
    p = (exp / exp.sum(1, keepdims=True)).astype(np.float32)
    answers = logits.argmax(1)
    groups = None if group_size is None else [i // group_size for i in range(samples)]
    return {
        "seed": seed,
        "samples": samples,
        "classes": classes,
        "present": present,
        "group_size": group_size,
        "scores": scores(labels, answers, p),
        "loss": float(log_loss(labels, exp / exp.sum(1, keepdims=True), labels=range(classes))),
        "sklearn_balanced_accuracy": float(balanced_accuracy_score(labels, answers)),
        "calibration": calibration(labels, answers, p),
        "curves": curves(labels, p),
        "resamples": RESAMPLES,
        "intervals": intervals(seed, labels, answers, p, groups),
    }


warnings.simplefilter("ignore")
document = {
    "written_by": f"tools/train/metrics.py with scikit-learn {sklearn.__version__}, numpy {np.__version__}",
    "cases": [case(21, 60, 3, 3, None), case(22, 120, 6, 5, None), case(23, 50, 2, 2, None), case(24, 80, 3, 3, 4)],
}
OUT.write_text(json.dumps(document) + "\n")
print(f"{OUT}: {OUT.stat().st_size} bytes")
