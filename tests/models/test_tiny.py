import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.models.tiny import ROLES, SPECIAL, tiny_model, tiny_tokenizer

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 32}


def weights(model):
    return torch.cat([parameter.reshape(-1) for parameter in model.parameters()])


def test_the_weights_are_a_function_of_the_seed():
    # Fails when the global random state gets in: it differs between the two calls.
    torch.manual_seed(1)
    one = weights(tiny_model(20, seed=3, **SMALL))
    torch.manual_seed(2)
    assert torch.equal(one, weights(tiny_model(20, seed=3, **SMALL)))
    assert not torch.equal(one, weights(tiny_model(20, seed=4, **SMALL)))


def test_building_a_model_leaves_the_global_random_numbers_alone():
    torch.manual_seed(1)
    undisturbed = torch.rand(3)
    torch.manual_seed(1)
    tiny_model(20, seed=3, **SMALL)
    assert torch.equal(torch.rand(3), undisturbed)


def test_the_default_has_about_half_a_million_parameters():
    count = sum(parameter.numel() for parameter in tiny_model(80, seed=0).parameters())
    assert 500_000 <= count <= 650_000


def test_embeddings_are_tied():
    model = tiny_model(20, seed=0, **SMALL)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("sizes", [{"hidden": 15}, {"heads": 3}, {"heads": 16}, {"layers": 0}, {"heads": 0}])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(UserError, match=r"even multiple of model\.heads|sizes are positive"):
        tiny_model(20, seed=0, **{**SMALL, **sizes})


def test_a_saved_model_and_tokenizer_are_the_same_after_loading(tokenizer, make_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = make_model(seed=1)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, words = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "system", "content": "dry lake"}, {"role": "user", "content": "<action> left </action>"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == text
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert words.encode(text, add_special_tokens=False) == ids
    assert words.decode(ids) == tokenizer.decode(ids)
    assert (words.eos_token_id, words.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(torch.tensor([ids])).logits, model(torch.tensor([ids])).logits)


def test_the_chat_template_writes_this_text(tokenizer):
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a b"},
        {"role": "assistant", "content": "left"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == (
        "<|im_start|> system be brief <|im_end|> <|im_start|> user a b <|im_end|> "
        "<|im_start|> assistant left <|im_end|> "
    )
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert prompt == (
        "<|im_start|> system be brief <|im_end|> <|im_start|> user a b <|im_end|> <|im_start|> assistant "
    )


@pytest.mark.parametrize(
    "text", ["<think> go left </think> <plan> left </plan> <action> left </action>", "row 1 column 2 : S / H", "!"]
)
def test_decoding_gives_back_the_text_that_was_encoded(tokenizer, text):
    # Fails with a decoder that joins the words without blanks: a remembered reply would be an unknown word.
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == len(text.split())
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


def test_the_vocabulary_is_sorted_and_has_every_word_once():
    # Fails when the words keep the order of a set, which differs between processes.
    words = tiny_tokenizer(["b", "a", "b", "user", "<pad>"]).get_vocab()
    assert words == {word: i for i, word in enumerate([*SPECIAL, *ROLES, "a", "b"])}


def test_a_word_outside_the_vocabulary_is_unknown(tokenizer):
    assert tokenizer.encode("left elsewhere", add_special_tokens=False)[1] == tokenizer.unk_token_id
