import numpy as np
import torch

from lapwing.annotate.entropy import Entropy
from lapwing.testing import episodes


def test_entropies_are_those_of_plain_forward_passes(model):
    # Fails when an entropy is given to another token, or the mean runs over the batch instead of the step.
    batch = episodes([[0.0, 0.0], [0.0]], tokens_per_step=[[2, 0], [3]])
    batch = batch.with_columns(
        token=np.array([5, 6, 7, 8, 9], dtype=np.int32), context_token=np.array([3, 4, 3], dtype=np.int32)
    )
    columns = Entropy(model, temperature=2.0).columns(batch)
    expected = []
    for context, reply in (([3], [5, 6]), ([3], [7, 8, 9])):
        logits = model(torch.tensor([context + reply[:-1]])).logits[0].double() / 2.0
        logprob = torch.log_softmax(logits, -1)
        expected += (-(logprob.exp() * logprob).sum(-1)).tolist()[-len(reply) :]
    np.testing.assert_allclose(columns["token_entropy"], expected, atol=1e-5)
    means = [np.mean(expected[:2]), 0.0, np.mean(expected[2:])]
    np.testing.assert_allclose(columns["entropy"], means, atol=1e-5)
