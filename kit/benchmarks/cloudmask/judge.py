"""Judges a run on the login node: the ranks formed one job, the split was kept, and every scene was scored."""

from __future__ import annotations

from pathlib import Path

from kit.core.errors import KitError
from kit.core.files import read_json
from kit.training.judge import one_job, splits_kept

TRAIN, INFER, SCORE = "train/train.json", "masks/infer.json", "score/score.json"


def judge(directory: Path, ranks: int) -> None:
    """Checks ranks and devices of training and inference, and the split; KitError for what cannot be.

    The split is that of the stage extract: training and validation used scenes of theirs alone, inference all of its own.
    """
    trained, inferred = (one_job(directory, name, ranks) for name in (TRAIN, INFER))
    listed: dict[str, dict[str, str]] = {"training": {}, "validation": {}, "inference": {}}
    for scene in read_json(directory / "products/scenes.json")["scenes"]:
        listed[scene["split"]][scene["name"]] = scene["orbit"]
    used = {split: trained[f"{split}_scenes"] for split in ("training", "validation")}
    splits_kept(TRAIN, used, listed, test="inference", what="scenes")
    for name, scenes in ((INFER, inferred["scenes"]), (SCORE, read_json(directory / SCORE)["scenes"])):
        if scenes != len(listed["inference"]):
            raise KitError(f"{name}: {scenes} scenes, but products/scenes.json has {len(listed['inference'])} for inference")
