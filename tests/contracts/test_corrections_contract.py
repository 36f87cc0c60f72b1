"""What every method in `corrections/` promises, found by listing the folder."""

import importlib
import inspect

import pytest
import torch

from lapwing.core.columns import COLUMNS
from lapwing.core.registry import describe, names, resolve

every_method = pytest.mark.parametrize("name", names("corrections"))
TOKENS = 12


def module(name):
    return importlib.import_module(f"lapwing.corrections.{name}")


def arguments(name, seed=0):
    """Tensors for all that the method asks for without a default; the probabilities differ by a few per cent."""
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.randn(TOKENS, generator=generator, dtype=torch.float64)

    sampler = -draw().abs()
    known = {
        "logprob": sampler + 0.3 * draw(),
        "behavior_logprob": sampler + 0.3 * draw(),
        "sampler_logprob": sampler,
        "advantage": draw(),
        "step_of_token": torch.arange(TOKENS) // 2,
        "episode_of_token": torch.arange(TOKENS) // 4,
    }
    parameters = inspect.signature(resolve("corrections", name)).parameters.values()
    chosen = {p.name: known[p.name] for p in parameters if p.default is p.empty}
    if "logprob" in chosen:
        chosen["logprob"].requires_grad_()
    return chosen


@every_method
def test_the_module_says_what_the_method_is(name):
    assert isinstance(module(name).MERGEABLE, bool)
    assert set(module(name).NEEDS) <= set(COLUMNS)
    assert set(module(name).NEEDS) <= set(inspect.signature(resolve("corrections", name)).parameters)
    assert describe("corrections", name).needs == module(name).NEEDS


@every_method
def test_all_parameters_are_keywords(name):
    parameters = inspect.signature(resolve("corrections", name)).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)


@every_method
@pytest.mark.parametrize("seed", range(5))
def test_there_is_one_factor_per_token_without_gradient_and_none_is_negative(name, seed):
    factor = resolve("corrections", name)(**arguments(name, seed))
    assert factor.shape == (TOKENS,)
    assert factor.dtype == torch.float64
    assert not factor.requires_grad
    assert torch.isfinite(factor).all()
    assert (factor >= 0).all()


@every_method
def test_where_nothing_drifted_every_factor_is_1(name):
    given = arguments(name)
    same = {key: given["sampler_logprob"] for key in given if key.endswith("logprob")}
    assert resolve("corrections", name)(**{**given, **same}).tolist() == [1.0] * TOKENS


@every_method
def test_the_precision_of_the_model_is_kept(name):
    given = {k: v.detach().float() if v.is_floating_point() else v for k, v in arguments(name).items()}
    assert resolve("corrections", name)(**given).dtype == torch.float32


@every_method
def test_the_inputs_stay_as_they_are(name):
    given = arguments(name)
    before = {key: tensor.detach().clone() for key, tensor in given.items()}
    resolve("corrections", name)(**given)
    assert all(torch.equal(given[key], before[key]) for key in given)


@every_method
def test_episodes_do_not_influence_each_other(name):
    # The learner's minibatches hold whole episodes.
    given = arguments(name)
    together = resolve("corrections", name)(**given)
    alone = [
        resolve("corrections", name)(**{key: tensor[k : k + 4] for key, tensor in given.items()})
        for k in range(0, TOKENS, 4)
    ]
    torch.testing.assert_close(torch.cat(alone), together)


@every_method
def test_a_mergeable_factor_of_a_token_depends_on_that_token_only(name):
    if not module(name).MERGEABLE:
        return  # By its own word its tokens belong together.
    given = arguments(name)
    factor = resolve("corrections", name)(**given)
    alone = [
        resolve("corrections", name)(**{key: tensor[k : k + 1] for key, tensor in given.items()}) for k in range(TOKENS)
    ]
    torch.testing.assert_close(torch.cat(alone), factor)


@every_method
def test_no_tokens_have_no_factors(name):
    none = {key: tensor[:0] for key, tensor in arguments(name).items()}
    assert resolve("corrections", name)(**none).shape == (0,)


@every_method
def test_unknown_settings_are_refused(name):
    with pytest.raises(TypeError, match="no_such_setting"):
        resolve("corrections", name)(**arguments(name), no_such_setting=1)


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("corrections", name))
    assert_tested("corrections", name)
