import numpy as np
import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.games.search.retrievers import Dense
from lapwing.games.search.world import Document
from lapwing.models.text_encoder import TextEncoder
from lapwing.models.tiny import tiny_model, tiny_tokenizer

WORDS = ["ka", "lo", "mi", "home", "pet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = tiny_tokenizer(WORDS)
    tokenizer.save_pretrained(folder)
    tiny_model(len(tokenizer), seed=1, hidden=16, layers=2, heads=2, intermediate=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return TextEncoder(str(folder), max_tokens=8)


def test_a_vector_is_the_mean_of_the_last_hidden_states(folder, encoder):
    from transformers import AutoModel

    token = torch.tensor([tiny_tokenizer(WORDS)("ka lo home")["input_ids"]])
    assert token.shape == (1, 3)
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder)(input_ids=token).last_hidden_state[0]
    found = encoder(["ka lo home"])
    assert (found.shape, found.dtype) == ((1, 16), np.float32)
    np.testing.assert_allclose(found[0], (hidden[0] + hidden[1] + hidden[2]).numpy() / 3, atol=1e-6)


def test_neighbours_in_a_batch_do_not_change_a_vector(encoder):
    texts = ["ka", "ka lo mi home pet", "", "home pet"]
    alone = np.concatenate([encoder([text]) for text in texts])
    np.testing.assert_allclose(encoder(texts), alone, atol=1e-6)
    assert not alone[2].any()
    assert np.abs(alone[[0, 1, 3]]).max(1).min() > 0
    assert encoder([]).shape == (0, 16)


def test_a_text_is_cut(encoder):
    np.testing.assert_array_equal(encoder(["ka lo " * 500]), encoder(["ka lo " * 4]))
    assert (encoder(["ka lo " * 4]) != encoder(["ka lo " * 3])).any()


def test_a_document_is_found_by_its_own_words(encoder):
    documents = [Document(str(i), "", text) for i, text in enumerate(["ka home", "lo pet", "mi mi mi"])]
    retriever = Dense(documents, encoder)
    assert [retriever.search(document.text, 1)[0].id for document in documents] == ["0", "1", "2"]


def test_a_model_that_is_none_and_a_length_that_it_has_not_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"There is no folder '.*absent'"):
        TextEncoder(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="holds no weights"):
        TextEncoder(str(tmp_path))
    for length in (0, 2049):
        with pytest.raises(UserError, match=f"reads from 1 to 2048 tokens, not {length}; set max_tokens"):
            TextEncoder(str(folder), max_tokens=length)
