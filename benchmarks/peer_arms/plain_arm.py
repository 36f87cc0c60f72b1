"""The same loop written plainly: `model.generate` on left-padded batches, one padded forward and backward pass."""

import time
from collections.abc import Callable
from typing import Any

import lake
import torch


class Match:
    """One episode: its tokens, and which of them the model said."""

    def __init__(self, state: Any, prompt: list[int]) -> None:
        self.state, self.tokens, self.said = state, prompt, [0] * len(prompt)
        self.steps, self.reward, self.is_over = 0, 0.0, False


class Plain:
    """GRPO on transcripts."""

    def __init__(self, task: lake.Task, model: Any, tokenizer: Any, learning_rate: float, batch: int) -> None:
        """Make the loop.

        Args:
          task: the game and its words.
          model, tokenizer: of transformers.
          learning_rate: of AdamW.
          batch: episodes of one backward pass.
        """
        self.task, self.model, self.tokenizer, self.batch = task, model, tokenizer, batch
        self.pad, self.end = tokenizer.pad_token_id, tokenizer.eos_token_id
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, betas=lake.BETAS, weight_decay=0.0, fused=True
        )

    def asked(self, state: Any) -> list[int]:
        """A board, and the beginning of the reply to it."""
        messages = [{"role": "user", "content": self.task.board(state)}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    @torch.no_grad()
    def play(self, iteration: int) -> list[Match]:
        """All episodes of an update, turn by turn."""
        self.model.eval()
        starts = self.task.starts(iteration)
        matches = [Match(state, self.asked(state)) for state in starts for _ in range(lake.GROUP_SIZE)]
        while live := [match for match in matches if not match.is_over]:
            width = max(len(match.tokens) for match in live)
            ids = torch.full((len(live), width), self.pad)
            keep = torch.zeros_like(ids)
            for row, match in enumerate(live):
                ids[row, width - len(match.tokens) :] = torch.tensor(match.tokens)
                keep[row, width - len(match.tokens) :] = 1
            replies = self.model.generate(
                input_ids=ids,
                attention_mask=keep,
                max_new_tokens=lake.REPLY_TOKENS,
                do_sample=True,
                top_k=0,
                pad_token_id=self.pad,
            )[:, width:].tolist()
            for match, reply in zip(live, replies, strict=True):
                self.answer(match, reply)
        return matches

    def answer(self, match: Match, reply: list[int]) -> None:
        """Note a reply, move, and ask again."""
        if self.end in reply:
            reply = reply[: reply.index(self.end) + 1]
        match.tokens, match.said = match.tokens + reply, match.said + [1] * len(reply)
        match.steps += 1
        action = lake.read_reply(self.tokenizer.decode([token for token in reply if token != self.end]))
        if action is None:
            match.is_over = True
            return
        moved = self.task.step(match.state, action)
        match.state, match.reward = moved.state, match.reward + moved.reward[0]
        match.is_over = moved.terminated or match.steps >= lake.MAX_STEPS
        if not match.is_over:
            shown = self.asked(match.state)
            shown = shown if reply[-1] == self.end else [self.end, *shown]
            match.tokens, match.said = match.tokens + shown, match.said + [0] * len(shown)

    def update(self, matches: list[Match]) -> None:
        """One step of AdamW on all tokens that the model said."""
        reward = torch.tensor([match.reward for match in matches]).view(-1, lake.GROUP_SIZE)
        advantage = ((reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True) + 1e-4)).view(-1)
        total = sum(sum(match.said) for match in matches)
        for first in range(0, len(matches), self.batch):
            part = matches[first : first + self.batch]
            width = max(len(match.tokens) for match in part)
            ids, said = torch.full((len(part), width), self.pad), torch.zeros(len(part), width)
            for row, match in enumerate(part):
                ids[row, : len(match.tokens)] = torch.tensor(match.tokens)
                said[row, : len(match.said)] = torch.tensor(match.said, dtype=torch.float32)
            logits = self.model(input_ids=ids, attention_mask=(ids != self.pad).long(), use_cache=False).logits
            logprob = torch.log_softmax(logits[:, :-1], dim=-1).gather(-1, ids[:, 1:, None])[..., 0]
            # One update a batch: these are the weights that played, so that the ratio is 1 and the clip of 0.2 inert.
            ratio = (logprob - logprob.detach()).exp()
            gain = advantage[first : first + self.batch, None]
            surrogate = torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain)
            (-(surrogate * said[:, 1:]).sum() / total).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), lake.CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()


def make(
    maps: str = "fixed", learning_rate: float = lake.FROZEN, seed: int = 0, learnt: bool = False, batch: int = 16
) -> Callable[..., dict[str, float]]:
    """A function that plays and learns once, or evaluates the weights.

    Args:
      maps: "fixed" or "random".
      learning_rate: of AdamW, constant.
      seed: of the matches and of sampling.
      learnt: begin with the weights of a policy that has become narrow.
      batch: episodes of one backward pass.
    """
    torch.manual_seed(seed)
    task = lake.Task(maps, seed=seed)
    model, tokenizer = lake.load(lake.start(maps, "transcript", learnt=learnt))
    plain = Plain(task, model, tokenizer, learning_rate, batch)
    done = 0

    def work(evaluate: int = 0) -> dict[str, float]:
        nonlocal done
        if evaluate:
            return {"success": lake.success(task.plan("transcript"), model, tokenizer, evaluate, seed)}
        began = time.perf_counter()
        matches = plain.play(done)
        played = time.perf_counter() - began
        plain.update(matches)
        done += 1
        return {
            "updates": 1,
            "episodes": len(matches),
            "steps": sum(match.steps for match in matches),
            "tokens": sum(sum(match.said) for match in matches),
            "trained_tokens": sum(sum(match.said) for match in matches),
            "success": sum(match.reward for match in matches) / len(matches),
            "play_seconds": played,
        }

    return work
