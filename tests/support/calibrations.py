"""A calibration of a store."""

from retrieval.store.maintenance.calibration import (
    Calibration,
    HeldOut,
    PairScores,
)
from retrieval.store.maintenance.hit_calibration import HitScores


def a_calibration(digest: str = "d", after: float = 0.02) -> Calibration:
    return Calibration(
        model="default",
        digest=digest,
        slope=3.5,
        intercept=-2.25,
        pictures=1200,
        classes=3,
        pairs=2400,
        seed=7,
        unseen=HeldOut.pictures,
        roc_auc=0.75,
        before=PairScores(0.6, 0.27),
        after=PairScores(0.7, after),
        hits=HitScores(1150, 0.0625, 0.0125, 1.4),
    )
