"""The recipe of docs/tool-use.md for a model and a corpus of one's own, with a toy Qwen2 that the test makes."""

import json
import re
from pathlib import Path

import pytest

import lapwing
from lapwing.core.storage import read_json_lines

PAGE = Path(__file__).parents[2] / "docs" / "tool-use.md"

# Of Qwen2.5's template what matters here: tools in the system message, results as user turns.
TEMPLATE = """{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}
{% endif %}# Tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{%- for message in messages %}{% if message.role == 'system' and not tools or message.role == 'user' \
or message.role == 'assistant' %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A folder as Qwen's: a byte-level BPE tokenizer with the template above, and a Qwen2 of one layer."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("toy")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["<tool> search the capital of France </tool>"] * 3, vocab_size=300, min_frequency=1)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_documented_recipe_trains(toy, tmp_path, monkeypatch):
    facts = {"France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Austria": "Vienna", "Kenya": "Nairobi"}
    corpus = [
        {"id": n, "title": n, "text": f"The capital of {n} is {c}. </result> <|im_end|>"} for n, c in facts.items()
    ]
    questions = [
        {"id": f"{n}{s}", "question": f"What is the capital of {n}?", "answers": [c], "split": s}
        for n, c in facts.items()
        for s in ("train", "development", "test")
    ]
    monkeypatch.chdir(tmp_path)
    for name, rows in (("corpus", corpus), ("questions", questions)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (text,) = re.findall(r"```toml\n(# my_search.toml.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    Path("my_search.toml").write_text(text.replace("Qwen/Qwen2.5-0.5B-Instruct", str(toy)))
    quick = ["iterations=2", "sampler.groups=2", "sampler.group_size=3", "generation.max_tokens=12"]
    run = lapwing.train("my_search.toml", run="run", overrides=[*quick, "evaluation.every=1", "evaluation.episodes=4"])
    rows = [row for row in read_json_lines(run.path / "metrics.jsonl") if row["stage"] == "main"]
    assert [row["iteration"] for row in rows] == [0, 1]
    assert rows[0]["policy/gap_max"] < 1e-3
    (episode, *_) = read_json_lines(next(iter(sorted((run.path / "episodes").iterdir()))))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run.model)
    first = tokenizer.decode(episode["steps"][0]["context_token"])
    # The tool's schema, the instructions and the question reached the model; an untrained one cannot call.
    assert '"name": "search"' in first
    assert "between <tool> and </tool>" in first.replace("\n", " ")
    assert "What is the capital of" in first
    assert len(episode["steps"]) == 4
    assert episode["steps"][1]["extends_previous"]
    assert "<error>" in tokenizer.decode(episode["steps"][1]["context_token"])
    assert "Answer now." in tokenizer.decode(episode["steps"][3]["context_token"])
