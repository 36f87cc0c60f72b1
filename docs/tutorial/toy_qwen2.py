"""Write a toy of the Qwen2 architecture as an ordinary model folder: python toy_qwen2.py. Nothing is downloaded.

It has two layers, 64 wide, random weights, a byte-level BPE tokenizer that is trained here on one line, and a chat
template of the shape of Qwen's. It can do nothing yet, and everything that handles a real Qwen2 handles it.
"""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils.logging import disable_progress_bar

TEXT = "dry lake : S F F F / F H F H / F F F H / H F F G row 0 1 2 3 column 0 1 2 3 up down left right user assistant "
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

words = Tokenizer(models.BPE())
words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
words.decoder = decoders.ByteLevel()
words.train_from_iterator(
    [TEXT] * 4,
    trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    ),
)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=words,
    eos_token="<|im_end|>",
    pad_token="<|endoftext|>",
    additional_special_tokens=["<|im_start|>"],
    chat_template=TEMPLATE,
)
torch.manual_seed(0)
model = Qwen2ForCausalLM(
    Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
)
ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
model.generation_config = GenerationConfig(**ends)
disable_progress_bar()
model.save_pretrained("toy_qwen2")
tokenizer.save_pretrained("toy_qwen2")
print(f"toy_qwen2: a Qwen2 of {model.num_parameters():,} parameters, {len(tokenizer)} tokens")
