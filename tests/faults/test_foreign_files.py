"""Model folders of other people: whatever is in them, nothing runs, nothing is filled in, and one sentence says why."""

import json
import os
import pickle
import random
import shutil
import struct
import sys
import time
import tracemalloc

import pytest
import torch
from safetensors.torch import load_file, save_file

from lapwing.core.errors import UserError
from lapwing.models.chat_format import ChatFormat
from lapwing.models.lora import LoraSettings, save_adapter
from lapwing.models.pretrained import load_in_place, pretrained_model
from lapwing.models.text_encoder import TextEncoder
from lapwing.models.weights import check_safetensors, weight_files

# `make soak` tries more.
SOAK = 10 if os.environ.get("LAPWING_SOAK") else 1


def load(folder, **settings):
    return pretrained_model(path=str(folder), device="cpu", **settings)


@pytest.fixture
def folder(toy_folder, tmp_path):
    """A folder that a test may break."""
    return shutil.copytree(toy_folder("qwen2"), tmp_path / "toy")


@pytest.fixture
def adapter(toy_folder, tmp_path):
    """An adapter that a test may break, with its tokenizer."""
    model, tokenizer = load(toy_folder("qwen2"), lora=LoraSettings(rank=2, alpha=4, targets=("q_proj",)))
    save_adapter(tmp_path / "adapter", model)
    tokenizer.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def change(file, **entries):
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


# ---------------------------------------------------------------------------------------------------------------------
# F25: pickles and code.


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def canary(tmp_path):
    """What must not come to be; and no pickle is looked into meanwhile."""
    path = tmp_path / "canary"
    unpickled = []
    is_on = True

    def listen(event, arguments):
        if is_on and event == "pickle.find_class":
            unpickled.append(arguments)

    sys.addaudithook(listen)
    yield path
    is_on = False
    assert not path.exists()
    assert unpickled == []


def evil(path, file):
    """An evil pickle as plain bytes, and as torch writes it."""
    if file.suffix in (".pickle", ".pkl"):
        file.write_bytes(pickle.dumps(Evil(path)))
    else:
        torch.save({"evil": Evil(path)}, file)


# Fails when the folder is given to transformers without `use_safetensors`, or a kind of pickle is not in the list.
@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "weights.pkl", "weights.pickle", "adapter_model.bin"],
)
def test_f25_pickles_alone_are_refused_by_name_and_with_the_way_to_convert_them(name, folder, canary):
    (folder / "model.safetensors").unlink()
    evil(canary, folder / name)
    with pytest.raises(UserError, match=rf"are pickles \({name}\).*save_pretrained\(NEW\)"):
        load(folder)


# Fails when anything but safetensors and JSON is opened.
def test_f25_pickles_of_all_kinds_beside_the_weights_are_left_alone(folder, canary):
    for name in (
        "tokenizer.pickle",
        "tokenizer.pkl",
        "vocab.pkl",
        "optimizer.pt",
        "training_args.bin",
        "rng_state.pth",
    ):
        evil(canary, folder / name)
    evil(canary, folder / "pytorch_model.bin")
    evil(canary, folder / "adapter_model.bin")
    (folder / "pytorch_model.bin.index.json").write_text('{"metadata": {}, "weight_map": {"a": "pytorch_model.bin"}}')
    assert load(folder)[0].num_parameters() > 0


# Fails when an adapter is left to PEFT, which takes the pickle where there are no safetensors.
def test_f25_the_pickle_of_an_adapter_is_refused(adapter, canary):
    weights = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({**weights, "evil": Evil(canary)}, adapter / "adapter_model.bin")
    with pytest.raises(UserError, match=r"are a pickle \(adapter_model\.bin\)"):
        load(adapter)


def sharded(folder, shards):
    """The weights of a folder in two shards, and an index with these names."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    for shard, part in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        save_file({name: weights[name] for name in part}, folder / shard, metadata={"format": "pt"})
    places = {name: shards[i % 2] for i, name in enumerate(names)}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_f25_shards_are_read_where_the_index_names_them_and_a_file_besides_is_not(folder, toy_folder):
    sharded(folder, ["a.safetensors", "b.safetensors"])
    (folder / "consolidated.safetensors").write_bytes(b"nothing")
    model, _ = load(folder)
    assert [file.name for file in weight_files(folder)] == ["a.safetensors", "b.safetensors"]
    plain, _ = load(toy_folder("qwen2"))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    with torch.no_grad():
        model.model.norm.weight.zero_()
    load_in_place(model, folder)
    assert torch.equal(model.model.norm.weight, plain.model.norm.weight)


# Fails when the names of an index are joined to the folder as they are.
@pytest.mark.parametrize(
    ("shard", "why"),
    [
        ("pytorch_model.bin", "it may name only"),
        ("../outside.safetensors", "it may name only"),
        ("{outside}", "it may name only"),
        ("sub/c.safetensors", "it may name only"),
        ("c.safetensors", "its index names .*c.safetensors.*, which is missing"),
        (5, "it may name only"),
        (["a.safetensors"], "it may name only"),
        ("\ud800.safetensors", "which is missing"),
    ],
)
def test_f25_an_index_names_only_safetensors_beside_it(shard, why, folder, canary, tmp_path):
    evil(canary, folder / "pytorch_model.bin")
    (folder / "sub").mkdir()
    for outside in (tmp_path / "outside.safetensors", folder / "sub" / "c.safetensors"):
        shutil.copy(folder / "model.safetensors", outside)
    shard = shard.format(outside=tmp_path / "outside.safetensors") if isinstance(shard, str) else shard
    sharded(folder, ["a.safetensors", shard])
    with pytest.raises(UserError, match=why):
        load(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": {}, "metadata": {}}', '{"weight_map": 5}', "{" * 10**5]
)
def test_f25_an_index_that_is_none_is_refused(text, folder):
    sharded(folder, ["a.safetensors", "b.safetensors"])
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"index\.json (is|has)"):
        load(folder)


# The code of a configuration: `test_code_of_a_model_runs_only_when_it_is_trusted` in tests/models/test_pretrained.py.
# Fails when `trust_remote_code` is left to transformers, which asks, or is True.
def test_f25_code_of_a_tokenizer_does_not_run(folder, canary):
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    change(
        folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Slow", "own.Fast"]}, tokenizer_class="Own"
    )
    load(folder)


# Fails when templates are rendered outside of the sandbox.
def test_f25_code_in_a_chat_template_does_not_run(folder, canary):
    template = "{{ cycler.__init__.__globals__.os.system('touch " + str(canary) + "') }}{{ messages[0]['content'] }}"
    (folder / "chat_template.jinja").write_text(template)
    _, tokenizer = load(folder)
    with pytest.raises(UserError, match="chat template refuses"):
        ChatFormat(tokenizer)


# Fails when `_attn_implementation` is left as the folder says: a name with a slash is native code from the hub.
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_f25_kernels_that_a_folder_asks_for_are_not_fetched(key, folder):
    change(folder / "config.json", **{key: "someone/kernel"})
    model, _ = load(folder)
    assert model.config._attn_implementation == "sdpa"
    assert model.config._experts_implementation != "someone/kernel"


def test_f25_the_base_of_an_adapter_is_no_adapter(adapter, canary):
    evil(canary, adapter / "adapter_model.bin")
    change(adapter / "adapter_config.json", base_model_name_or_path=str(adapter))
    with pytest.raises(UserError, match="is an adapter itself"):
        load(adapter)


# ---------------------------------------------------------------------------------------------------------------------
# F26: headers.


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(begin, end, shape=None, dtype="F32"):
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
DAMAGED = {
    "empty": b"",
    "seven bytes": b"1234567",
    "a header of a terabyte": file_of(b"{}", length=2**40),
    "a header of 2 to the 64": file_of(b"{}", length=2**64 - 1),
    "100,000 entries": file_of({f"t{i}": tensor(4 * i, 4 * i + 4) for i in range(100_000)}, b"\0" * 400_000),
    "the most entries that are read, all in one place": file_of(
        {f"{i}": tensor(0, 4) for i in range(60_000)}, b"\0" * 4
    ),
    "no JSON": file_of(b"{a}"),
    "no text": file_of(b"\xff\xfe{}"),
    "a list": file_of([]),
    "nested": file_of(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a number of 5,000 digits": file_of(b'{"a":' + b"9" * 5000 + b"}"),
    "an entry that is none": file_of({"a": 5}),
    "overlapping": file_of({"a": tensor(0, 8), "b": tensor(4, 12)}, b"\0" * 12),
    "a hole": file_of({"a": tensor(0, 4), "b": tensor(8, 12)}, b"\0" * 12),
    "beyond the end": file_of({"a": tensor(0, 400)}, b"\0" * 12),
    "something left": file_of({"a": tensor(0, 4)}, b"\0" * 12),
    "backwards": file_of({"a": tensor(8, 4, [1])}, b"\0" * 8),
    "a negative place": file_of({"a": tensor(-4, 0)}, b""),
    "a negative shape": file_of({"a": tensor(0, 4, [-1, -1])}, b"\0" * 4),
    "a shape that is larger": file_of({"a": tensor(0, 4, [10**12])}, b"\0" * 4),
    "a shape whose product is past all bounds": file_of({"a": tensor(0, 4, [2**62] * 4000)}, b"\0" * 4),
    "half a number": file_of({"a": {**tensor(0, 4), "shape": [1.0]}}, b"\0" * 4),
    "a truth value": file_of({"a": {**tensor(0, 4), "shape": [True]}}, b"\0" * 4),
    "one offset": file_of({"a": {**tensor(0, 4), "data_offsets": [4]}}, b"\0" * 4),
    "a number format that there is not": file_of({"a": tensor(0, 4, dtype="F33")}, b"\0" * 4),
    "a number format that is a list": file_of({"a": tensor(0, 4, dtype=["F32"])}, b"\0" * 4),  # type: ignore[arg-type]
    "a name twice": file_of(TWICE, b"\0" * 4),
    "escape codes": file_of({"\x1b[2J\ud800": 5}),
}


# Fails when the length of the header is not bounded, or the places of the tensors are not added up.
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_f26_a_damaged_header_is_refused_in_bounded_time_and_memory(content, tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    started = time.process_time()
    with pytest.raises(UserError, match=r"a\.safetensors is damaged or no safetensors file: ") as refused:
        check_safetensors(file)
    assert time.process_time() - started < 2
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="damaged"):
            check_safetensors(file)
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def doors(toy_folder, tmp_path, adapter):
    """The ways by which safetensors of other people come in, each with the file that is read."""
    model, _ = load(toy_folder("qwen2"))
    whole = shutil.copytree(toy_folder("qwen2"), tmp_path / "whole")
    parted = shutil.copytree(toy_folder("qwen2"), tmp_path / "parted")
    sharded(parted, ["a.safetensors", "b.safetensors"])
    return {
        "a model": (lambda: load(whole), whole / "model.safetensors"),
        "shards": (lambda: load(parted), parted / "b.safetensors"),
        "an encoder": (lambda: TextEncoder(str(whole)), whole / "model.safetensors"),
        "weights for a model": (lambda: load_in_place(model, whole), whole / "model.safetensors"),
        "an adapter": (lambda: load(adapter), adapter / "adapter_model.safetensors"),
    }


# Fails when any of the doors leaves the file to the library, which is made to fail here.
def test_f26_nothing_is_left_to_the_library_before_the_header_was_looked_at(toy_folder, tmp_path, adapter, monkeypatch):
    found = doors(toy_folder, tmp_path, adapter)

    def opened(*_, **__):
        raise AssertionError("the library was asked")

    for name in ("modeling_utils.safe_open", "modeling_utils.safe_load_file"):
        monkeypatch.setattr(f"transformers.{name}", opened, raising=False)
    monkeypatch.setattr("lapwing.models.pretrained.load_file", opened)
    for name, (enter, file) in found.items():
        # The base of the adapter is whole, so that it may be loaded.
        if name == "an adapter":
            monkeypatch.undo()
            monkeypatch.setattr("lapwing.models.lora.load_file", opened)
        for content in (DAMAGED["a header of a terabyte"], DAMAGED["overlapping"], DAMAGED["a name twice"]):
            file.write_bytes(content)
            with pytest.raises(UserError, match="is damaged or no safetensors file"):
                enter()


# Fails when a file that the library takes is refused, or one is let through that it does not take.
def test_f26_what_is_let_through_is_what_the_library_takes(toy_folder, tmp_path):
    whole = (toy_folder("qwen2") / "model.safetensors").read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = random.Random(26)
    seen = {True: 0, False: 0}
    for _ in range(150 * SOAK):
        content = bytearray(whole)
        for _ in range(rng.choice((0, 1, 1, 3))):
            content[rng.randrange(header)] = rng.choice((rng.randrange(256), *b'0123456789"{}[],:F'))
        file = tmp_path / "a.safetensors"
        file.write_bytes(content)
        try:
            load_file(file)
            takes = True
        except Exception:  # the library has several kinds
            takes = False
        try:
            passes = bool(check_safetensors(file))
        except UserError:
            passes = False
        assert passes == takes, bytes(content[:header])
        seen[takes] += 1
    assert min(seen.values()) > 10


# ---------------------------------------------------------------------------------------------------------------------
# Settings: config.json, generation_config.json, tokenizer files, adapter_config.json.


# Fails when sizes are left to transformers, which builds the model first.
@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"hidden_size": "x"}, r'config\.json: hidden_size is "x", and a model has a whole number from 1 to 1,048,576'),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"hidden_size": 10**12}, "hidden_size is 1000000000000"),
        ({"hidden_size": 10**4000}, "hidden_size is 10+…"),
        ({"hidden_size": [8, "x"]}, 'hidden_size is "x"'),
        ({"hidden_size": True}, "hidden_size is true"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
        ({"num_hidden_layers": 1.5}, "num_hidden_layers is 1.5"),
        ({"num_hidden_layers": 4000, "num_experts": 16000}, "4,000 layers of 16,000 experts each"),
        ({"max_position_embeddings": 10**15}, "max_position_embeddings is 1000000000000000"),
        ({"hidden_size": 2**20, "intermediate_size": 2**18, "num_hidden_layers": 3640},
         r"describes a model of at least 1,00[0-9],[0-9,]{15} parameters, and its weights have"),
        ({"vocab_size": 10**7}, "describes a model of at least 320,0"),
        ({"text_config": {"vocab_size": -7}}, "vocab_size is -7"),
        ({"rms_norm_eps": float("nan")}, r"config\.json is no JSON \(it holds NaN\)"),
        ({"eos_token_id": "x"}, 'eos_token_id is "x", and a token\'s number is needed'),
        ({"transformers_weights": "../../x.safetensors"}, "names other weights by transformers_weights"),
    ],
)  # fmt: skip
def test_a_config_that_no_model_can_have_is_refused_at_once(entries, why, folder, monkeypatch):
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    change(folder / "config.json", **entries)
    started = time.process_time()
    with pytest.raises(UserError, match=why):
        load(folder)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no JSON"),
        ("\0\x1b[2J", "is no JSON"),
        ("[]", r"is no JSON object but \[\]"),
        ("{" * 200_000, "is no JSON"),
        ('{"a":' * 200_000 + "1" + "}" * 200_000, "is nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "is no JSON"),
        ('{"a": NaN}', "it holds NaN"),
        (" " * (65 * 2**20), "has 68,157,440 bytes, and no model needs more"),
    ],
    ids=["empty", "bytes", "a list", "open", "nested", "digits", "NaN", "huge"],
)
def test_settings_that_are_no_json_are_refused(name, text, why, folder):
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=why) as refused:
        load(folder)
    assert str(refused.value).isprintable()


VALUES = ("x", "", -1, 0, 1, 10**12, 1.5, None, [], ["x"], {}, {"x": 5}, True)


# Fails when an error of a library comes through; MemoryError would, and a hang is what the sizes are checked for.
def test_any_setting_of_any_kind_gives_a_model_or_one_sentence(folder, adapter):
    files = [folder / name for name in ("config.json", "generation_config.json", "tokenizer_config.json")]
    files.append(adapter / "adapter_config.json")
    whole = {file: json.loads(file.read_text()) for file in files}
    cases = [(file, key, value) for file in files for key in whole[file] for value in VALUES]
    random.Random(25).shuffle(cases)
    refused = 0
    for file, key, value in cases[: 80 * SOAK]:
        file.write_text(json.dumps({**whole[file], key: value}))
        started = time.process_time()
        try:
            load(file.parent)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error), (file, key, value)
            assert len(str(error)) < 700, (file, key, value)
        # A base that is no longer named is looked for on the hub, for three seconds at most.
        assert time.process_time() - started < 5, (file, key, value)
        file.write_text(json.dumps(whole[file]))
    assert refused > 10


# Fails when the panic of a library that is written in Rust is taken for no error.
def test_any_damage_of_a_tokenizer_gives_a_model_or_one_sentence(folder):
    file = folder / "tokenizer.json"
    whole = file.read_bytes()
    rng = random.Random(54)
    cases = [b"", b"{", b"[]", b"5", b"[" * 200_000, b'{"a":' * 200_000 + b"1" + b"}" * 200_000, whole[:-1]]
    cases.append(whole.replace(b'"unk_token": null', b'"unk_token": 5'))
    cases.append(whole.replace(b'"type": "BPE"', b'"type": "WordPiece"'))
    for _ in range(25 * SOAK):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 5))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        cases.append(bytes(content if rng.random() < 0.8 else content[: rng.randrange(len(content))]))
    refused = 0
    for content in cases:
        file.write_bytes(content)
        try:
            load(folder)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 10


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"r": 10**12}, "has the rank 1000000000000; one is from 1 to 65,536"),
        ({"r": "x"}, 'has the rank "x"'),
        ({"rank_pattern": {"q_proj": 10**12}}, "has the rank 1000000000000"),
        ({"peft_type": "NOTHING"}, "is not what PEFT writes"),
        ({"target_modules": "("}, "An adapter cannot be put into"),
        ({"base_model_name_or_path": 5}, "does not say which model it belongs to"),
        ({"revision": 5}, "revision is 5, and a text is needed"),
    ],
)
def test_an_adapter_that_asks_for_what_no_adapter_is_is_refused(entries, why, adapter):
    change(adapter / "adapter_config.json", **entries)
    with pytest.raises(UserError, match=why):
        load(adapter)
