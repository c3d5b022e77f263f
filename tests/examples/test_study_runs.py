"""The study's runs: the same start and batches for all, killed and gone on with."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

from examples.gan import presets
from examples.gan.data import Dataset, batches, real_on
from examples.gan.errors import UserError
from examples.gan.mesh import first_state, make_mesh
from examples.gan.train import make_train_step
from examples.study import judge, run, score, training
from examples.study.__main__ import main
from examples.study.checksums import checksums
from examples.study.options import QUICK_EPOCHS
from examples.study.plan import FULL, QUICK, Job, plan
from examples.study.records import read_records
from examples.study.run import make_run
from examples.study.score import Scorer
from examples.study.study import Study, config_of, load_material
from examples.study.training import train
from examples.study.workers import make_runs, missing
from tests.examples.study_program import shrink, write_images
from tests.exhaustive import exhaustive

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "study_program.py"


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (run, "N_FAKE"), (score, "N_FAKE"), (judge, "_BATCH"),
            (training, "_TOGETHER"),
        ):  # fmt: skip
            patch.setattr(module, name, getattr(module, name))
        patch.setitem(presets.PRESETS, "mnist", presets.PRESETS["mnist"])
        shrink()
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_images(folder)
    return Study(folder / "out", "mnist", str(folder), steps=7, epochs=QUICK_EPOCHS)


@pytest.fixture(scope="module")
def material(study):
    return load_material(study)


def job(method, seed=0, setting="C"):
    return Job("mlp", "non-saturating", setting, method, seed)


@pytest.fixture(scope="module")
def after_one(study, material):
    """Checksums of some methods, and their state after one update."""
    found = {}
    for method in ("none", "wn", "layer-norm", "sn+gp"):  # one of a kind
        config = config_of(study, job(method), material.train.crc32())
        mesh = make_mesh(None)
        state = first_state(config, mesh)
        sums = checksums(config, state)
        rows = next(batches(len(material.train), 64, 0, 0, 1))
        real = real_on(mesh, material.train, rows)
        step = make_train_step(config, mesh)
        state, _ = step(state, real, np.uint32(0))
        found[method] = sums, jax.device_get(state)
    return found


@exhaustive
def test_weights_and_latents_are_the_same_for_every_method(after_one):
    sums = [checked for checked, _ in after_one.values()]
    assert all(checked == sums[0] for checked in sums)


@exhaustive
def test_the_generator_really_draws_from_the_same_latents(after_one):
    """Its batch statistics after one update depend on its weights and on z alone."""
    none = jax.tree.leaves(after_one["none"][1].generator["batch_stats"])
    start = [np.zeros_like(leaf) for leaf in none]
    assert any(not np.allclose(a, b) for a, b in zip(none, start, strict=True))
    for _, state in after_one.values():
        for ours, theirs in zip(
            jax.tree.leaves(state.generator["batch_stats"]), none, strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@exhaustive
def test_the_images_are_the_same_for_every_method(study, material):
    """The order of seed 0 begins with this permutation."""

    def images(method, seed=0):
        config = config_of(study, job(method, seed), 0)
        config = dataclasses.replace(config, steps=2)
        state = first_state(config, make_mesh(None))
        return train(config, state, material.train, lambda n: None).batches

    order = np.random.default_rng((0, 0)).permutation(300)[:128]
    expected = zlib.crc32(material.train.pixels[order].tobytes())
    assert images("none") == images("sn+gp") == expected
    assert images("none", seed=1) != expected


@exhaustive
def test_another_seed_is_another_start(study, material, after_one):
    config = config_of(study, job("none", seed=1), 0)
    other = checksums(config, first_state(config, make_mesh(None)))
    same, _ = after_one["none"]
    assert all(other[key] != same[key] for key in same)


def test_the_plan_has_each_run_once_and_only_chooses():
    jobs = plan(("mlp",), FULL, None)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    compared = [job for job in jobs if job.is_compared]
    assert len(compared) == 2 * 9 * 3
    robust = {(j.method, j.setting) for j in jobs if j.method in ("sn", "clip", "gp")}
    assert len(robust) >= 3 * 6
    assert [j.name for j in plan(("mlp",), QUICK, "stein-A-sn-")] == [
        "mlp-wasserstein-A-sn-0",
        "mlp-wasserstein-A-sn-1",
    ]
    with pytest.raises(UserError, match="fits none of the 43 runs: expected"):
        plan(("mlp",), QUICK, "^x$")
    with pytest.raises(UserError, match=r"--only \[ is no regular expression"):
        plan(("mlp",), QUICK, "[")


@pytest.fixture(scope="module")
def whole(study):
    """Three runs without a break."""
    jobs = [job("none", seed) for seed in range(3)]
    make_runs(study, jobs, processes=1)
    return jobs, {record["seed"]: record for record in read_records(study.folder)}


@exhaustive
def test_a_record_holds_what_it_should(whole, study, material):
    _, records = whole
    record = records[0]
    assert record["config"]["seed"] == 0
    assert record["config"]["steps"] == 7
    assert "data_dir" not in record["config"]
    assert len(record["curves"]["first"]["generator_loss"]) == 7
    assert record["score"]["n_fake"] == 100
    assert record["score"]["n_real"] == 200
    assert sum(record["score"]["class_shares"]) == pytest.approx(1)
    assert record["diverged_at"] is None
    shapes = {name: layer["n"] for name, layer in record["spectra"]["end"].items()}
    assert sorted(shapes.values()) == [1, 12, 16]


def same(record):
    """What does not depend on when a run was made."""
    return {key: record[key] for key in record if key != "seconds"}


@exhaustive
def test_a_run_is_made_again_bit_for_bit(whole, study, material):
    _, records = whole
    other = study._replace(folder=study.folder.parent / "again")
    scorer = Scorer(material.judge, material.train, material.test)
    record = make_run(other, job("none", 2), material, scorer, lambda n: None)
    assert same(json.loads(json.dumps(record))) == same(records[2])


@exhaustive
def test_only_what_is_missing_is_made(whole, study):
    jobs, _ = whole
    assert missing(study, jobs) == []
    path = study.folder / "records" / f"{jobs[1].name}.json"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert missing(study, jobs) == [jobs[1]]
    path.write_bytes(content)
    with pytest.raises(UserError, match="holds a run with --steps 7: expected another"):
        missing(study._replace(steps=8), jobs)


@exhaustive
def test_killed_within_a_run_it_goes_on(whole, study):
    """Killed in its second run: the first record stays, the rest is as without."""
    _, records = whole
    folder = study.folder.parent / "killed"
    arguments = ["runs", "--data-dir", study.data_dir, "--out", str(folder)]
    arguments += ["--steps", "7", "--seeds", "3", "--quick", "--processes", "1"]
    arguments += ["--only", "non-saturating-C-none"]
    words = [sys.executable, str(PROGRAM), "10", *arguments]
    there = dict(os.environ, PYTHONPATH=str(ROOT))
    ended = subprocess.run(words, env=there, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    (first,) = (folder / "records").glob("*.json")
    before = first.stat().st_mtime_ns
    assert main(arguments) == 0
    assert first.stat().st_mtime_ns == before
    again = {record["seed"]: record for record in read_records(folder)}
    # The judge's file is made anew, by the same program on the same machine.
    assert {k: same(v) for k, v in again.items()} == {
        k: same(v) for k, v in records.items()
    }


@exhaustive
def test_a_run_that_diverges_is_a_record(study, material, monkeypatch):
    """A network that gets NaN is denied its updates until the run gives up."""
    nothing = np.full((1, 64, 32, 32, 1), np.nan, np.float32)
    monkeypatch.setattr(Dataset, "images", lambda self, rows: nothing)
    scorer = Scorer.__new__(Scorer)
    scorer._about = {"floor": 0.5}
    long = study._replace(folder=study.folder.parent / "diverged", steps=20)
    ticks = []
    record = make_run(long, job("none"), material, scorer, ticks.append)
    assert record["diverged_at"] == 11
    assert record["score"]["distance"] is None
    assert sum(ticks) == 10
    (read,) = read_records(long.folder)
    assert read["diverged_at"] == 11
