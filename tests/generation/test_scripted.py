import numpy as np

from lapwing.core.types import Prompt, Request
from lapwing.generation.scripted import Scripted


def request(tokenizer, text, key=0):
    token = np.array(tokenizer.encode(text, add_special_tokens=False), dtype=np.int32)
    return Request(Prompt(token, token.tobytes()), key)


def test_a_script_answers_by_context_and_key(tokenizer):
    generator = Scripted(lambda text, key: f"{text} {'a' if key % 2 else 'b'}", tokenizer)
    first, second = generator.generate([request(tokenizer, "left", 1), request(tokenizer, "right", 2)])
    assert tokenizer.decode(first.token) == "left a"
    assert tokenizer.decode(second.token) == "right b"
    assert first.logprob.tolist() == [0.0, 0.0]
    assert first.stop_reason == "end"


def test_a_script_is_cut_at_its_budget(tokenizer):
    generator = Scripted(lambda _text, _key: "a b c", tokenizer, max_tokens=2)
    (reply,) = generator.generate([request(tokenizer, "left")])
    assert tokenizer.decode(reply.token) == "a b"
    assert len(reply.logprob) == 2
    assert reply.stop_reason == "length"


def test_silence_is_a_reply(tokenizer):
    (reply,) = Scripted(lambda _text, _key: "", tokenizer).generate([request(tokenizer, "left")])
    assert reply.token.shape == reply.logprob.shape == (0,)
