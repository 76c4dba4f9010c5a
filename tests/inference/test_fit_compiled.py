"""``fit`` gives the same numbers whichever way its steps are run."""

import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference import EMA, GradientClipping
from ppl_genmodels.models import VAE

X = (torch.arange(222.0).reshape(37, 6) * 7 % 5 > 2).float()


def fit(**settings):
    torch.manual_seed(0)
    warmed = obj.log_lik() - obj.Linear(0.0, 1.0, steps=6) * obj.kl()
    settings = {"objective": warmed, "batch_size": 16, "epochs": 3, "validation": 0.2, "progress": False} | settings
    return ppl.fit(VAE(6, 2, (8,)), X, callbacks=[EMA(0.9), GradientClipping(0.5)], **settings)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_a_traced_fit_gives_the_eager_numbers(precision):
    eager, traced = (fit(compile=mode, precision=precision) for mode in ("off", "trace"))
    for column in ("objective", "kl", "gradient_norm", "validation"):
        one, other = eager.history[column].dropna(), traced.history[column].dropna()
        assert other.tolist() == pytest.approx(one.tolist(), rel=1e-5), column


def test_a_lowered_fit_gives_the_eager_numbers_up_to_rounding():
    eager, lowered = (fit(compile=mode).history["objective"].tolist() for mode in ("off", "inductor"))
    assert lowered == pytest.approx(eager, rel=1e-4)


def test_the_precision_of_products_is_set_and_put_back():
    before, seen = torch.get_float32_matmul_precision(), []

    class Seen(ppl.inference.Callback):
        def after_step(self, training):
            seen.append(torch.get_float32_matmul_precision())

    ppl.fit(VAE(6, 2, (8,)), X, epochs=1, callbacks=[Seen()], matmul_precision="medium", progress=False)
    assert set(seen) == {"medium"}
    assert torch.get_float32_matmul_precision() == before


def test_an_unknown_precision_is_refused():
    with pytest.raises(OptionError, match="'highest', 'high', 'medium', or None; got 'low'"):
        ppl.fit(VAE(6, 2, (8,)), X, matmul_precision="low")


def test_the_card_says_which_precision_products_had():
    assert fit(matmul_precision="high").card["settings"]["matmul_precision"] == "high"
    assert fit().card["settings"]["matmul_precision"] == torch.get_float32_matmul_precision()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_gpu_gives_the_same_numbers_each_way(precision):
    eager, traced, lowered = (
        fit(compile=mode, precision=precision, accelerator="cuda").history["objective"].tolist()
        for mode in ("off", "trace", "inductor")
    )
    assert traced == pytest.approx(eager, rel=1e-4)
    assert lowered == pytest.approx(eager, rel=1e-2)
