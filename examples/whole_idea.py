"""MS-GRPO in one file: a small language model learns to cross a frozen lake, in half a minute on one core.

Run it:

    python whole_idea.py
    python whole_idea.py --iterations 10

Read it from top to bottom. A game is rules (1); a language-agent policy is text around a language model: a view becomes
words, a reply becomes an action (2, 3). Whole episodes are played in groups that begin in the same state (4). Every
decision of an episode gets the credit of the whole episode, relative to its group (5); episodes far from the mean are
trained on more often (6); every token weighs the same (7) in a clipped policy-gradient step (8).

Nothing here comes from Lapwing, which does the same with any game, model and method. A test holds the two together:
from the same weights and episodes both make the same update.

Reference: Dilkes, Yazdanpanah and Stein 2025, "Reinforced Language Models for Sequential Decision Making" (MS-GRPO).
https://arxiv.org/abs/2508.10839
"""

import argparse
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

# ---------------------------------------------------------------------------------------------------------------------
# 1. The game: Gymnasium's 4x4 lake. From S to G over frozen F; a hole H ends it. Reward 1 at G, else 0.

LAKE = ("SFFF", "FHFH", "FFFH", "HFFG")
MOVES = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
MAX_STEPS = 20


def move(position: tuple[int, int], action: str) -> tuple[tuple[int, int], float, bool]:
    """The position after a move, its reward, and whether the game is over; the shore holds the player back."""
    row, column = (min(max(place + by, 0), 3) for place, by in zip(position, MOVES[action], strict=True))
    cell = LAKE[row][column]
    return (row, column), float(cell == "G"), cell in "GH"


# ---------------------------------------------------------------------------------------------------------------------
# 2. The text: what the model reads of a position, and what its reply means. It sees the present state and no history.

WORDS = ("<end>", "row", "column", "move", ":", "0", "1", "2", "3", *MOVES)
TOKEN = {word: number for number, word in enumerate(WORDS)}
END = TOKEN["<end>"]
MAX_TOKENS = 2
FORMAT_PENALTY = 1.0


def prompt(position: tuple[int, int]) -> list[int]:
    """A position as tokens."""
    return [TOKEN[word] for word in f"row {position[0]} column {position[1]} move :".split()]


def parse(reply: list[int]) -> str | None:
    """The action that a reply stands for; None if it is anything but one move, ended."""
    text = " ".join(WORDS[token] for token in reply)
    return text.removesuffix(" <end>") if text in {f"{action} <end>" for action in MOVES} else None


# ---------------------------------------------------------------------------------------------------------------------
# 3. The language model: a Llama of 0.1 million parameters from nothing. A model that was pretrained would know words.


def make_model(seed: int = 0) -> LlamaForCausalLM:
    """A small causal language model over the words above."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    # Wider than the usual 0.02: with that a model so small does not see positions for a long time.
    ids = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": END}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), initializer_range=0.1, **sizes, **ids)).eval()


def reply_logprobs(model: LlamaForCausalLM, prompts: list[list[int]], replies: list[list[int]]) -> torch.Tensor:
    """The log-probability of every token of the replies, laid end to end. [tokens]."""
    longest = max(len(reply) for reply in replies)
    padded = [p + reply + [END] * (longest - len(reply)) for p, reply in zip(prompts, replies, strict=True)]
    ids = torch.tensor(padded)
    start = len(prompts[0])
    logprobs = torch.log_softmax(model(ids).logits[:, start - 1 : -1], dim=-1)
    logprobs = logprobs.gather(-1, ids[:, start:, None])[..., 0]
    lengths = torch.tensor([len(reply) for reply in replies])
    return logprobs[torch.arange(longest) < lengths[:, None]]


# ---------------------------------------------------------------------------------------------------------------------
# 4. Play: whole episodes, all at once. Those of a group begin in the same state; on this lake all groups do.

GROUPS = 2
GROUP_SIZE = 80


@dataclass
class Step:
    """A decision: what the model read, what it replied and how probable each token was, and what came of it."""

    prompt: list[int]
    reply: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reward: float = 0.0


@dataclass
class Episode:
    """The decisions of one play of the game; `success` if it ended in the goal."""

    group: int
    steps: list[Step] = field(default_factory=list)
    success: bool = False


@torch.no_grad()
def answer(model: LlamaForCausalLM, prompts: list[list[int]], rng: np.random.Generator) -> list[Step]:
    """Sample a reply to every prompt, token by token; prompts are equally long."""
    steps, ids = [Step(p) for p in prompts], torch.tensor(prompts)
    for _ in range(MAX_TOKENS):
        logprobs = torch.log_softmax(model(ids).logits[:, -1], dim=-1).numpy()
        # The largest of log-probability plus Gumbel noise is a sample from the softmax.
        tokens = np.argmax(logprobs + rng.gumbel(size=logprobs.shape), axis=-1)
        for step, token, row in zip(steps, tokens.tolist(), logprobs, strict=True):
            if END not in step.reply:
                step.reply.append(token)
                step.logprobs.append(float(row[token]))
        ids = torch.cat([ids, torch.from_numpy(tokens)[:, None]], dim=1)
    return steps


def play(model: LlamaForCausalLM, rng: np.random.Generator) -> list[Episode]:
    """Play GROUPS x GROUP_SIZE episodes to their end."""
    episodes = [Episode(number // GROUP_SIZE) for number in range(GROUPS * GROUP_SIZE)]
    positions: dict[int, tuple[int, int]] = dict.fromkeys(range(len(episodes)), (0, 0))
    for _ in range(MAX_STEPS):
        alive = list(positions)
        for number, step in zip(alive, answer(model, [prompt(positions[n]) for n in alive], rng), strict=True):
            action = parse(step.reply)
            # What is no move costs something, and the first move of the list is made.
            positions[number], reward, is_over = move(positions[number], action or next(iter(MOVES)))
            step.reward = reward - (FORMAT_PENALTY if action is None else 0.0)
            episodes[number].steps.append(step)
            if is_over:
                episodes[number].success = reward > 0
                del positions[number]
        if not positions:
            break
    return episodes


# ---------------------------------------------------------------------------------------------------------------------
# 5. Credit: the return of the whole episode, centred and scaled within its group, for each of its decisions.


def group_advantage(episodes: list[Episode], eps: float = 1e-6) -> np.ndarray:
    """A = (R − mean R) / (std R + ε) over the episodes of a group; 0 where all returns are equal. [episodes]."""
    returns = np.array([sum(step.reward for step in episode.steps) for episode in episodes])
    group = np.array([episode.group for episode in episodes])
    advantage = np.zeros(len(episodes))
    for number in np.unique(group):
        members = returns[group == number]
        if np.ptp(members) > 0:
            advantage[group == number] = (members - members.mean()) / (members.std(ddof=1) + eps)
    return advantage


# ---------------------------------------------------------------------------------------------------------------------
# 6. Selection: half of the episodes, drawn by the size of their advantage. Very good and very bad ones teach most.


def draw(advantage: np.ndarray, rng: np.random.Generator, keep: float = 0.5) -> np.ndarray:
    """How often each episode is trained on: drawn with probability ∝ |A|, without replacement. [episodes]."""
    count = np.zeros(len(advantage), dtype=int)
    (drawable,) = np.nonzero(advantage)
    # The n largest of log-weight plus Gumbel noise are n such draws.
    noisy = np.log(np.abs(advantage[drawable])) + rng.gumbel(size=len(drawable))
    count[drawable[np.argsort(-noisy)[: max(1, int(keep * len(advantage) + 0.5))]]] = 1
    return count


# ---------------------------------------------------------------------------------------------------------------------
# 7. and 8. The update: Σ weight · loss over all tokens of what was drawn, and one step of AdamW.

CLIP_NORM = 0.5


def token_weights(episodes: list[Episode], count: np.ndarray) -> np.ndarray:
    """Every token of what was drawn weighs the same, and all together 1. [tokens of all episodes]."""
    per_token = np.concatenate(
        [np.full(len(s.reply), c) for e, c in zip(episodes, count, strict=True) for s in e.steps]
    )
    return per_token / max(per_token.sum(), 1)


def clipped_loss(
    logprob: torch.Tensor, old_logprob: torch.Tensor, advantage: torch.Tensor, clip: float = 0.2
) -> torch.Tensor:
    """−min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) with ρ the ratio of new to old probability. [tokens]."""
    ratio = torch.exp(logprob - old_logprob)
    return -torch.minimum(ratio * advantage, torch.clamp(ratio, 1 - clip, 1 + clip) * advantage)


def update(
    model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, episodes: list[Episode], rng: np.random.Generator
) -> float:
    """Credit, selection, loss, and one step of the optimiser; returns the loss."""
    advantage = group_advantage(episodes)
    weight = token_weights(episodes, draw(advantage, rng))
    steps = [step for episode in episodes for step in episode.steps]
    # Every token has the advantage of its episode.
    spread = [np.full(len(s.reply), a) for e, a in zip(episodes, advantage, strict=True) for s in e.steps]
    logprob = reply_logprobs(model, [step.prompt for step in steps], [step.reply for step in steps])
    old = torch.tensor([number for step in steps for number in step.logprobs])
    loss = clipped_loss(logprob, old, torch.from_numpy(np.concatenate(spread)).float())
    return descend(model, optimizer, (torch.from_numpy(weight).float() * loss).sum())


def descend(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    """One step of the optimiser, on a gradient of at most length 1/2; returns the loss."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
    return loss.item()


# ---------------------------------------------------------------------------------------------------------------------
# All of it.


def show_format(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> None:
    """Let a model that knows no words imitate random moves: it learns how to reply, and nothing about the lake."""
    for _ in range(40):
        prompts = [prompt((row, column)) for row, column in rng.integers(4, size=(64, 2)).tolist()]
        replies = [[TOKEN[action], END] for action in rng.choice(list(MOVES), size=64)]
        descend(model, optimizer, -reply_logprobs(model, prompts, replies).mean())


def main(iterations: int = 60, seed: int = 0) -> float:
    """Train, print the success of every iteration, and return that of the last."""
    started = time.monotonic()
    model, rng = make_model(seed), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    show_format(model, optimizer, rng)
    success = 0.0
    for iteration in range(iterations):
        episodes = play(model, rng)
        success = float(np.mean([episode.success for episode in episodes]))
        length = np.mean([len(episode.steps) for episode in episodes])
        update(model, optimizer, episodes, rng)
        seconds = time.monotonic() - started
        print(f"iteration {iteration + 1:3d}  success {success:.2f}  steps {length:4.1f}  {seconds:5.1f} s", flush=True)
    return success


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="MS-GRPO in one file.")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
