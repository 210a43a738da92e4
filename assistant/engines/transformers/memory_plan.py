"""How a device's memory is divided: what computing takes, and pages for conversations. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.engines.transformers.model import CacheShape

# Below that, a conversation of a few spoken turns doesn't fit.
MIN_TOKENS = 1024
# Memory beyond that many conversations is left to others.
MAX_CONVERSATIONS = 64
# The kernel that reads pages on a GPU takes multiples of it.
GPU_PAGE_TOKENS = 256
# On a CPU, of what is free; the rest is for all other programs.
CPU_SHARE = 0.5
# On a GPU, of what is free: for what libraries take for themselves, and for gaps between tensors.
GPU_MARGIN = 0.03
# What the driver keeps of a recorded step, for each layer: vLLM's logs tell of 0.4 MiB (Llama 3.2
# 1B: 35 recordings of 16 layers in 0.21 GiB).
RECORDED_LAYER_BYTES = 2**19
# Float32, for as many replies as take a step together: theirs, and those that sampling derives.
LOGITS_COPIES = 5
# Of what a conversation is told by: a reply, and what the template writes around a turn.
REPLY_TOKENS, TEMPLATE_TOKENS, TURN_S = 70, 10, 5
TOLD_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """The pages of a pool."""

    pages: int
    page_tokens: int
    capacity: int
    """Most tokens of one conversation."""

    def fitting(self, tokens: int) -> int:
        """How many conversations of so many tokens fit."""
        return self.pages // -(-tokens // self.page_tokens)

    def report(self, audio_tokens: int) -> str:
        """The same for people. `audio_tokens`: of `TURN_S` of speech."""
        turn = audio_tokens + REPLY_TOKENS + TEMPLATE_TOKENS
        told = min(TOLD_TOKENS, self.capacity)
        if self.fitting(told) == self.fitting(self.capacity):
            told = self.capacity
        count, turns = self.fitting(told), round(told / turn)
        text = f"{count} conversation{'s' * (count > 1)} of {told:,} tokens "
        text += f"(about {turns} turns of {TURN_S} s)"
        if told < self.capacity:
            text += f", {self.fitting(self.capacity)} of {self.capacity:,}"
        return text


def page_tokens(device_type: str, capacity: int) -> int:
    """How large pages are best, for conversations of at most `capacity` tokens."""
    # On a CPU one takes a whole conversation, so that attention finds it in one piece. What isn't
    # written to takes no memory there.
    return GPU_PAGE_TOKENS if device_type == "cuda" else capacity


def workspace_bytes(
    shape: CacheShape,
    *,
    context: int,
    queries_per_key: int,
    vocabulary: int,
    measured: int,
    recordings: int,
) -> int:
    """What computing takes on a GPU beside weights and pages.

    `measured`: what the longest sound and a part of a prompt have taken, whichever takes more;
    recorded steps, which are of fewer tokens, have as much for their own. What they can't show is
    derived: where attention goes the plain way, the keys and values of a layer in one piece, and
    again for each of the queries that share them; the logits of a large batch; and what the driver
    keeps of each recording.
    """
    layer = max(2 * layer.heads * layer.width for layer in shape.layers) * shape.bytes_per_number
    attention = context * layer * (1 + queries_per_key)
    logits = LOGITS_COPIES * MAX_CONVERSATIONS * vocabulary * 4
    kept = recordings * len(shape.layers) * RECORDED_LAYER_BYTES
    return 2 * measured + attention + logits + kept


def budget_bytes(device_type: str, free: int, workspace: int) -> float:
    """What of `free` is for pages."""
    if device_type == "cuda":
        return free * (1 - GPU_MARGIN) - workspace
    return free * CPU_SHARE


def plan(budget: float, shape: CacheShape, context: int, device_type: str) -> Plan | None:
    """As many pages as fit, for conversations of the model's whole context where that fits.

    None where a conversation of a few turns doesn't.
    """
    # One page more is set aside, for what nobody asks for; on a CPU it takes no memory.
    if device_type == "cuda":
        budget -= GPU_PAGE_TOKENS * shape.bytes_per_token
    tokens = min(context, int(budget // shape.bytes_per_token))
    if tokens < 1:
        return None
    size = page_tokens(device_type, tokens)
    pages = int(budget // (size * shape.bytes_per_token))
    pages = min(pages, MAX_CONVERSATIONS * -(-tokens // size))
    capacity = min(tokens, pages * size)
    return Plan(pages, size, capacity) if capacity >= min(MIN_TOKENS, context) else None
