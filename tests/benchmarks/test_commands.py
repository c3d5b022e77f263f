"""The command line, on a network that is small enough."""

import functools
import json
from unittest import mock

import jax
import jax.numpy as jnp
import pytest

from benchmarks.__main__ import main
from benchmarks.rivals import aot, commands, depth, field, measure, nets
from benchmarks.rivals.compiled import counts

TINY = nets.Case(functools.partial(nets.mlp, width=4), (3,), 2, 2)
GONE = field.Rival("gone, plain", "no_such_package", "gone", "plain", None)
GONE_SN = field.Rival("gone SN", "no_such_package", "gone", "sn", GONE.name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step", "--net", "resnet"], "invalid choice: 'resnet'"),
        (["time"], "invalid choice: 'time'"),
        (["--passes", "3"], "invalid choice: 3"),
        (["--rivals", "tensorflow"], "No rival has 'tensorflow' in its name; there"),
        (["--rivals", "("], "'(' is no regular expression (missing ), unterminated"),
        (["depth", "--net", "mlp"], "--net and --rivals are for step and counts: dep"),
    ],
)
def test_wrong_arguments_are_said(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_a_rival_comes_with_its_plain_step():
    names = [rival.name for rival in commands.chosen("haiku|sn_apply")]
    assert names == [
        "linen, plain", "specjax sn_apply", "haiku, plain", "haiku SNParamsTree"
    ]  # fmt: skip


def test_some_rows_have_to_be_named():
    asked = {rival.name for rival in field.FIELD if not rival.unasked}
    assert len(asked) == 4
    assert not asked & {rival.name for rival in commands.chosen("")}
    assert asked < {rival.name for rival in commands.chosen("shortest|constant")}


def test_rows_are_written_and_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(nets.NETS, "mlp", TINY)
    monkeypatch.setitem(nets.COUNTED, "mlp", TINY)
    monkeypatch.setattr(commands, "FIELD", (*field.FIELD, GONE, GONE_SN))
    rivals = ["--rivals", "sn_apply|torch|gone"]
    main(["step", "--net", "mlp", "--quick", "--out", str(tmp_path), *rivals])
    written = json.loads((tmp_path / "step.json").read_text())
    rows = {row["rival"]: row for row in written["rows"]}
    assert written["versions"]["jax"] == jax.__version__
    assert rows["gone SN"]["missing"] == "no_such_package is not installed"
    ours, plain = rows["specjax sn_apply"], rows["linen, plain"]
    assert "ratio" not in plain["run"]
    for phase in ("trace", "compile", "run"):
        low, median, high = ours[phase]["ratio"]
        assert 0 < low <= median <= high
        assert ours[phase]["seconds"] > 0
    assert ours["cpu"]["flops"] > plain["cpu"]["flops"]
    printed = capsys.readouterr().out
    assert "no_such_package is not installed" in printed
    assert f"jax {jax.__version__}" in " ".join(printed.split())
    assert f"{ours['run']['ratio'][1] - 1:+.1%}" in printed
    low, _, high = ours["run"]["ratio"]
    off = 1.57 * (high - low) / ours["run"]["rounds"] ** 0.5
    assert f" {off:.1%} " in printed


@pytest.mark.parametrize("what", ["step", "counts"])
def test_a_quick_look_at_all_networks_says_what_it_leaves_out(what, monkeypatch):
    asked = {}

    def note(name, case, batch, *_, rivals, **__):
        asked[name] = {rival.name for rival in rivals}
        return []

    monkeypatch.setattr({"step": measure, "counts": aot}[what], "measure", note)
    main([what, "--quick"])
    around = "specjax.linen, one around all"
    if what == "counts":
        assert list(asked) == ["resnet_d", "resnet_d_512"]
        assert all(around in names for names in asked.values())
        return
    assert set(asked) == {"mlp", "resnet_d"} | {
        f"{name}, quick" for name in ("cnn", "biggan", "mlp60", "vit")
    }
    assert not any(around in names for names in asked.values())
    main([what, "--quick", "--net", "mlp"])
    assert around in asked["mlp"]


def test_depth_has_a_row_for_each_number_of_kernels(tmp_path, monkeypatch, capsys):
    small = {
        name: form._replace(quick_depths=(2, 3)) for name, form in depth.FORMS.items()
    }
    monkeypatch.setattr(depth, "FORMS", small)
    main(["depth", "--quick", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "depth.json").read_text())["rows"]
    assert [(row["form"], row["kernels"]) for row in rows] == [
        (name, n) for name in small for n in (2, 3)
    ]
    assert all(row[p] > 0 for row in rows for p in ("trace", "compile", "run"))
    # Each row is of its own program: a layer more is three products.
    flops = {(row["form"], row["kernels"]): row["counts"]["flops"] for row in rows}
    more = flops["layers, plain", 3] - flops["layers, plain", 2]
    product = 2 * 8 * depth.SIDE**2
    assert 3 * product <= more < 3.2 * product
    assert f"{1e3 * rows[0]['trace'] / 2:,.2f} ms" in capsys.readouterr().out


def test_counts_are_those_of_a_product_of_matrices():
    x, y = jnp.ones((64, 32)), jnp.ones((32, 16))
    found = counts(jax.jit(jnp.matmul).lower(x, y).compile())
    assert found.flops == 2 * 64 * 32 * 16
    assert found.bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert found.temporary_bytes == 0


TEXT = """HloModule step, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused_computation (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %fusion.1 = f32[4]{0} fusion(%p), kind=kLoop, calls=%inner
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  ROOT %add_fusion = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused_computation
}
"""


def test_fusions_inside_of_others_count_and_equal_computations_once():
    program = mock.Mock(**{"as_text.return_value": TEXT})
    program.cost_analysis.return_value = {"flops": 1.0, "bytes accessed": 2.0}
    program.memory_analysis.return_value.temp_size_in_bytes = 3
    assert counts(program) == (1, 2, 2, 1, 4, 3)
    program.as_text.return_value = TEXT.replace("f32[4]{0} parameter", "f32[5] p", 1)
    assert counts(program).distinct == 2
