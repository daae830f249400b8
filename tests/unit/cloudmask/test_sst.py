"""Sea-surface temperatures: a perfect mask finds the bias that was put in, and no mask does not."""

from __future__ import annotations

import json
import pickle
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jinja2
import numpy as np
import pandas as pd
import pytest

from kit.benchmark import load_benchmark
from kit.benchmarks.cloudmask import scenes
from kit.core import paths
from kit.stages.cloudmask import infer, matchups, sst
from kit.stages.cloudmask.patches import Label, load


@pytest.fixture(scope="module")
def true_masks(data: Path, converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    with h5py.File(data / "truth.h5") as truth:
        for path in sorted((converted / "scenes/inference").glob("*.hdf")):
            scene = load(path, Label())
            infer.write_mask(folder / f"{path.stem}.nc", scene, truth[scene.name]["truth"][:].astype(float))
    return folder


def test_a_true_mask_finds_the_known_bias(data: Path, converted: Path, true_masks: Path, tmp_path: Path) -> None:
    sst.compare(data / "matchups.csv", converted / "scenes", true_masks, tmp_path, Label())
    found = json.loads((tmp_path / "sst.json").read_text())
    assert found["matchups"] > 100
    assert found["kept"] + sum(found["rejected"].values()) == found["matchups"]
    low, high = found["network"]["median_interval"]
    assert low - 0.05 < scenes.SST_BIAS < high + 0.05
    noise = np.hypot(scenes.BUOY_NOISE, scenes.RETRIEVAL_NOISE)
    assert found["network"]["rsd"] == pytest.approx(noise, rel=0.35)
    # Cloud that nobody takes out makes the sea cold.
    assert found["none"]["median"] < found["network"]["median"]
    assert found["none"]["rsd"] > 1.5 * found["network"]["rsd"]
    assert 0.9 < found["agreement"] < 1


def test_statistics() -> None:
    values = np.random.default_rng(0).normal(-0.2, 0.3, 20000)
    values[:1000] -= 10  # outliers, which a robust deviation does not see
    found = sst.statistics(values)
    assert found["median"] == pytest.approx(-0.2, abs=0.03)
    assert found["rsd"] == pytest.approx(0.3, rel=0.1)
    assert sst.statistics(values[:2])["median"] is None


@pytest.mark.parametrize("name", list(sst.FILTERS))
def test_each_filter_takes_something_out(data: Path, name: str) -> None:
    """A sixth of the match-ups is spoilt in one way each: a filter that is forgotten, or that keeps all, is found out."""
    table = pd.read_csv(data / "matchups.csv")
    keep = sst.FILTERS[name](table)
    assert 0 < (~keep).sum() < len(table) / 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("product,row\nx,1\n", "no column column, latitude"),
        ("", "not a table of comma-separated values"),
    ],
)
def test_tables_that_are_none(converted: Path, true_masks: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        sst.compare(tmp_path / "m.csv", converted / "scenes", true_masks, tmp_path, Label())


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("product", "S3A_elsewhere.SEN3", "S3A_elsewhere.SEN3 is not among the scenes of inference"),
        ("row", 5000, "a match-up outside of them"),
    ],
)
def test_match_ups_of_another_place(
    data: Path, converted: Path, true_masks: Path, tmp_path: Path, column: str, value: object, message: str
) -> None:
    table = pd.read_csv(data / "matchups.csv")
    pd.concat([table.assign(**{column: value}).head(50), table]).to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(ValueError, match=message):
        sst.compare(tmp_path / "m.csv", converted / "scenes", true_masks, tmp_path, Label())
    assert not (tmp_path / "sst.json").exists()


def test_no_table_is_said(converted: Path, true_masks: Path, tmp_path: Path) -> None:
    sst.compare(None, converted / "scenes", true_masks, tmp_path, Label())
    assert json.loads((tmp_path / "sst.json").read_text()) == {"matchups": 0, "reason": "the data set has no match-ups"}


def compared(table: Path, converted: Path, true_masks: Path, out: Path, **options: Any) -> dict[str, Any]:
    sst.compare(table, converted / "scenes", true_masks, out, Label(), **options)
    return json.loads((out / "sst.json").read_text())


def test_intervals_draw_scenes() -> None:
    """Of two scenes whose match-ups agree among themselves, one or the other or both may be drawn: the interval is wide,
    however many match-ups there are. Match-ups drawn one by one would say that they know better."""
    values, scene = np.repeat([-0.4, 0.2], 5000), np.repeat(["a", "b"], 5000)
    values = values + np.random.default_rng(0).normal(0, 0.01, len(values))
    low, high = sst.statistics(values, scene)["median_interval"]
    assert low == pytest.approx(-0.4, abs=0.01)
    assert high == pytest.approx(0.2, abs=0.01)
    # Of one scene nothing can be said.
    assert sst.statistics(values[:5000], scene[:5000])["median_interval"] is None
    # With a scene for each it is the ordinary bootstrap: 1.2533 sigma / sqrt(n), 1.96 times on each side.
    normal = np.random.default_rng(1).normal(0, 1, 2000)
    low, high = sst.statistics(normal)["median_interval"]
    assert high - low == pytest.approx(2 * 1.96 * 1.2533 / np.sqrt(2000), rel=0.25)


def test_the_median_of_a_draw_is_numpys() -> None:
    rng = np.random.default_rng(2)
    for number in (5, 8):
        values, scene = rng.normal(size=number), rng.integers(3, size=number)
        names, place = np.unique(scene, return_inverse=True)
        again = np.random.default_rng(0)
        for found in sst.medians(values, scene)[:50]:
            counts = np.bincount(again.integers(len(names), size=len(names)), minlength=len(names))
            assert found == pytest.approx(np.median(np.repeat(values, counts[place])))


def ancestors(table: pd.DataFrame) -> pd.DataFrame:
    """A table of ours as the ancestor has it: other names, degrees Celsius, paths of an archive, a fill of -9999."""
    kinds = table["algorithm_type"]
    columns = {
        "SLAT": table["buoy_latitude"],
        "SLON": table["buoy_longitude"],
        "latitude_an": table["latitude"],
        "longitude_an": table["longitude"],
        "isst": table["sst_insitu"] - 273.15,
        "satzan": table["satellite_zenith_nadir"],
        "satzao": table["satellite_zenith_oblique"],
        "sst_algorithm_type": kinds,
        "quality_level": table["quality_level"],
        "sat_sst_0": table["sst_satellite"].where(kinds == 1, -9999.0),
        "sat_sst_2": table["sst_satellite"].where(kinds == 4, -9999.0),
        "sat_sst_3": np.full(len(table), -9999.0),
        "pcloudn": table["probability_nadir"],
        "pcloudo": table["probability_oblique"],
        "cems_path": "/neodc/sentinel3a/data/SLSTR/L1_RBT/2018/05/" + table["product"],
        "x_cems": table["column"],
        "y_cems": table["row"],
    }
    return pd.DataFrame(columns)


def write_fixed(path: Path, table: pd.DataFrame) -> None:
    """As pandas' to_hdf does by default: a block for each type, texts pickled."""
    with h5py.File(path, "w") as file:
        group = file.create_group("data")
        texts = [name for name in table if table[name].dtype.kind == "O" or name == "cems_path"]
        numbers = [name for name in table if name not in texts]
        group.attrs.update({"pandas_type": np.bytes_(b"frame"), "nblocks": 2})
        group["axis0"], group["axis1"] = np.array(list(table), "S"), np.arange(len(table))
        group["block0_items"], group["block0_values"] = np.array(numbers, "S"), table[numbers].to_numpy(float)
        group["block1_items"] = np.array(texts, "S")
        content = pickle.dumps(table[texts].to_numpy(object))
        values = group.create_dataset("block1_values", (1,), h5py.vlen_dtype(np.uint8))
        values[0] = np.frombuffer(content, np.uint8)


def write_appendable(path: Path, table: pd.DataFrame) -> None:
    """As pandas' to_hdf(format="table") does: records, whose fields hold columns of one type."""
    texts = ["cems_path"]
    numbers = [name for name in table if name not in texts]
    kinds = [("index", "i8"), ("values_block_0", "f8", (len(numbers),)), ("values_block_1", "S200", (1,))]
    records = np.zeros(len(table), kinds)
    records["values_block_0"] = table[numbers].to_numpy(float)
    records["values_block_1"] = table[texts].to_numpy(str).astype("S200")
    with h5py.File(path, "w") as file:
        group = file.create_group("x/data")
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")
        values = group.create_dataset("table", data=records)
        for field, names in (("values_block_0", numbers), ("values_block_1", texts)):
            values.attrs[f"{field}_kind"] = np.bytes_(pickle.dumps(names, 0))


def by_pandas(layout: str) -> Callable[[Path, pd.DataFrame], None]:
    def write(path: Path, table: pd.DataFrame) -> None:
        pytest.importorskip("tables", reason="pandas writes HDF with PyTables")
        table.to_hdf(path, key="data", format=layout, mode="w")

    return write


@pytest.mark.parametrize(
    "write",
    [
        write_fixed,
        write_appendable,
        by_pandas("fixed"),
        by_pandas("table"),
        lambda path, table: table.to_csv(path.with_suffix(".csv"), index=False),
    ],
)
def test_the_ancestors_table_gives_what_ours_does(
    data: Path,
    converted: Path,
    true_masks: Path,
    tmp_path: Path,
    write: Callable[[Path, pd.DataFrame], None],
) -> None:
    ours = compared(data / "matchups.csv", converted, true_masks, tmp_path)
    table = ancestors(pd.read_csv(data / "matchups.csv"))
    # Match-ups of scenes that are not here: of its table one uses what one has.
    elsewhere = table.head(7).assign(cems_path="/neodc/S3A_SL_1_RBT____20180505T000000_elsewhere.SEN3")
    write(tmp_path / "m.h5", pd.concat([table, elsewhere], ignore_index=True))
    (path,) = (path for path in tmp_path.iterdir() if path.stem == "m")
    found = compared(path, converted, true_masks, tmp_path)
    assert found["matchups"] == ours["matchups"] + 7
    assert found["rejected"].pop("of a scene that is here") == 7
    assert found["celsius"] == ["sst_insitu"]
    assert ours["celsius"] == []
    assert {name: found["rejected"][name] for name in sst.FILTERS} == {name: ours["rejected"][name] for name in sst.FILTERS}
    assert found["kept"] == ours["kept"]
    for name in ("none", "bayes", "network"):
        assert found[name]["matchups"] == ours[name]["matchups"]
        assert found[name]["median"] == pytest.approx(ours[name]["median"])
        assert found[name]["rsd"] == pytest.approx(ours[name]["rsd"])


def test_the_ancestors_table_without_a_quality_level(data: Path, converted: Path, true_masks: Path, tmp_path: Path) -> None:
    table = ancestors(pd.read_csv(data / "matchups.csv")).drop(columns="quality_level")
    table.to_csv(tmp_path / "m.csv", index=False)
    found = compared(tmp_path / "m.csv", converted, true_masks, tmp_path)
    assert "quality level 5" not in found["rejected"]
    assert found["network"]["median"] is not None


@pytest.mark.parametrize("column", ["slat", "sat_sst_2", "y_cems", "isst"])
def test_what_the_ancestors_table_lacks_is_said(data: Path, tmp_path: Path, column: str) -> None:
    table = ancestors(pd.read_csv(data / "matchups.csv")).rename(columns=str.lower).drop(columns=column)
    write_fixed(tmp_path / "m.h5", table)
    with pytest.raises(ValueError, match=rf"m\.h5: no column {column}"):
        matchups.read_matchups(tmp_path / "m.h5")


class Program:
    """What would be run by whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_table_runs_no_program(data: Path, tmp_path: Path) -> None:
    table = ancestors(pd.read_csv(data / "matchups.csv").head(3))
    write_fixed(tmp_path / "m.h5", table)
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["data/block1_values"][0] = np.frombuffer(pickle.dumps(Program(tmp_path / "pwned")), np.uint8)
    with pytest.raises(
        ValueError, match=r"m\.h5: not a table that pandas wrote as HDF \(it holds a .*, which is no array\)"
    ):
        matchups.read_matchups(tmp_path / "m.h5")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"no HDF", None])
def test_files_that_are_no_hdf_table(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file["isst"] = np.zeros(3)
    else:
        (tmp_path / "m.h5").write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.h5: not a table that pandas wrote as HDF"):
        matchups.read_matchups(tmp_path / "m.h5")


def test_fill_is_no_temperature_place_or_angle(data: Path, converted: Path, true_masks: Path, tmp_path: Path) -> None:
    """-9999 passes for a small angle, for a clear sky and, in two columns, for one place; it is none of these."""
    table = pd.read_csv(data / "matchups.csv")
    ours = compared(data / "matchups.csv", converted, true_masks, tmp_path)
    rows = table.head(6)
    fills = [
        {"sst_insitu": -9999.0},
        {"sst_satellite": -32768.0},
        {"satellite_zenith_nadir": -9999.0},
        {"latitude": -9999.0, "buoy_latitude": -9999.0},
        {"algorithm_type": np.nan},
        {"row": -9999},
    ]
    spoilt = [rows.iloc[[place]].assign(**fill) for place, fill in enumerate(fills)]
    unlikely = rows.assign(probability_nadir=-9999.0)
    pd.concat([table, *spoilt, unlikely]).to_csv(tmp_path / "m.csv", index=False)
    found = compared(tmp_path / "m.csv", converted, true_masks, tmp_path)
    assert found["matchups"] == ours["matchups"] + 12
    assert found["rejected"]["every value that a filter asks for"] == 5
    assert found["rejected"]["a temperature of its retrieval"] == 1
    # A probability that nobody gave makes no sky clear for the Bayesian mask, and takes no match-up from ours.
    assert found["bayes"] == ours["bayes"]
    assert found["network"]["matchups"] >= ours["network"]["matchups"]
    assert abs(found["network"]["median"]) < 1


def test_degrees_celsius_are_recognised_and_a_mixture_is_refused(
    data: Path, converted: Path, true_masks: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(data / "matchups.csv")
    ours = compared(data / "matchups.csv", converted, true_masks, tmp_path)
    for columns in (["sst_insitu"], ["sst_insitu", "sst_satellite"]):
        table.assign(**{name: table[name] - 273.15 for name in columns}).to_csv(tmp_path / "m.csv", index=False)
        found = compared(tmp_path / "m.csv", converted, true_masks, tmp_path)
        assert found["celsius"] == columns
        assert found["network"]["median"] == pytest.approx(ours["network"]["median"])
    mixed = table["sst_insitu"].where(table.index > 3, table["sst_insitu"] - 273.15)
    table.assign(sst_insitu=mixed).to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(ValueError, match=r"m\.csv: sst_insitu has 4 temperatures in degrees Celsius and \d+ in kelvin"):
        matchups.read_matchups(tmp_path / "m.csv")


def test_a_frozen_buoy_is_left_out(data: Path, converted: Path, true_masks: Path, tmp_path: Path) -> None:
    """As the ancestor does: below 273.15 K the buoy is in ice, or on a beach."""
    table = pd.read_csv(data / "matchups.csv")
    ours = compared(data / "matchups.csv", converted, true_masks, tmp_path)
    cold = table.head(4).assign(sst_insitu=[273.15, 273.14, 271.0, 250.0])
    pd.concat([table, cold]).to_csv(tmp_path / "m.csv", index=False)
    found = compared(tmp_path / "m.csv", converted, true_masks, tmp_path)
    rejected = {name: found["rejected"][name] - ours["rejected"][name] for name in ours["rejected"]}
    assert sum(rejected.values()) == 4
    assert rejected["buoy above 273.15 K"] >= 1
    assert found["none"] == ours["none"]


def test_longitudes_meet_at_the_date_line() -> None:
    table = pd.DataFrame(
        {
            "buoy_longitude": [179.998, -179.998, 0.001, 359.998, 179.9, 10.0],
            "longitude": [-179.998, 179.998, 359.999, 0.004, -179.9, 190.0],
        }
    )
    keep = sst.FILTERS["buoy within 0.01 degrees of longitude"](table)
    assert keep.tolist() == [True, True, True, True, False, False]


def test_each_retrieval_stands_for_itself(data: Path, converted: Path, true_masks: Path, tmp_path: Path) -> None:
    """D2 is the dual view with two channels, type 4. Of D3, type 5, the temperature is another: beside it, not in it."""
    assert matchups.RETRIEVALS == {"N2": 1, "N3": 3, "D2": 4, "D3": 5}
    table = pd.read_csv(data / "matchups.csv")
    ours = compared(data / "matchups.csv", converted, true_masks, tmp_path)
    three = table.assign(algorithm_type=5, sst_satellite=table["sst_satellite"] + 0.5)
    pd.concat([table, three]).to_csv(tmp_path / "m.csv", index=False)
    found = compared(tmp_path / "m.csv", converted, true_masks, tmp_path)
    assert found["network"] == ours["network"] == found["by_retrieval"]["D2"]["network"]
    assert found["by_retrieval"]["D3"]["network"]["median"] > ours["network"]["median"] + 0.3
    assert found["kept"] + sum(found["rejected"].values()) == found["matchups"]
    chosen = compared(tmp_path / "m.csv", converted, true_masks, tmp_path, retrieval="D3")
    assert chosen["network"] == found["by_retrieval"]["D3"]["network"]
    assert chosen["retrieval"] == "D3"
    with pytest.raises(ValueError, match="retrieval D4: N2, N3, D2, D3 are known"):
        compared(tmp_path / "m.csv", converted, true_masks, tmp_path, retrieval="D4")


def test_the_size_that_has_match_ups_compares_them() -> None:
    """The table is fetched with the products, and the stage is given the file that comes."""
    folder = paths.PACKAGE / "benchmarks/cloudmask"
    benchmark = load_benchmark("cloudmask")
    size = benchmark.size("one_day")
    sources = tomllib.loads((folder / f"datasets/{size.dataset}.toml").read_text())["sources"]
    assert f"data/{Path(sources[0]['url']).name}" == size.parameters["matchups"]
    (stage,) = (stage for stage in benchmark.stages if stage.name == "sst")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    command = environment.from_string(stage.command).render(size.parameters)
    assert "--matchups data/sst_matchups.h5" in command
    reported = [metric for metric in benchmark.metrics if metric.file == "sst/sst.json"]
    assert len(reported) == 4
    assert all("one_day" in metric.sizes for metric in reported)


@pytest.mark.parametrize(
    ("stage", "change", "option"),
    [
        ("convert", {"most_unseen": 0.8}, " --unseen 0.8"),
        ("patches", {"polarity": "trusted"}, " --trust-label"),
        ("score", {"cosmetic": "left_out"}, " --without-cosmetic"),
    ],
)
def test_a_size_can_choose(stage: str, change: dict[str, object], option: str) -> None:
    benchmark = load_benchmark("cloudmask")
    (command,) = (entry.command for entry in benchmark.stages if entry.name == stage)
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(command)
    for size in benchmark.sizes.values():
        assert option not in template.render(size.parameters)
        assert option in template.render({**size.parameters, **change})
