"""The references of all architectures: those of the others are as `tests/model_card.py` is.

Each is the library's own model with `generate`, on the whole conversation from scratch. Where the
library's processor needs packages that nothing else does, the prompt is written out by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import (
    AudioFlamingo3ForConditionalGeneration,
    AutoConfig,
    AutoFeatureExtractor,
    AutoProcessor,
    AutoTokenizer,
    Gemma3nForConditionalGeneration,
    Gemma4ForConditionalGeneration,
    Gemma4UnifiedForConditionalGeneration,
    GlmAsrForConditionalGeneration,
    GraniteSpeechForConditionalGeneration,
    MusicFlamingoForConditionalGeneration,
    Phi4MultimodalForCausalLM,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    VoxtralForConditionalGeneration,
)
from transformers.audio_utils import mel_filter_bank
from transformers.models.qwen2_5_omni import processing_qwen2_5_omni as qwen25_processing
from transformers.models.qwen3_omni_moe import processing_qwen3_omni_moe as qwen3_processing

from assistant.engines.transformers.models.gemma3n import Gemma3n
from assistant.prompt import AudioPart, Message, Prompt, TextPart
from tests.model_card import ModelCard, audios, conversation
from tests.tiny_architectures import (
    TEKKEN_CONTROL,
    TEKKEN_SPECIALS,
    build_audio_flamingo,
    build_gemma3n,
    build_gemma4,
    build_gemma4_unified,
    build_glm_asr,
    build_granite_speech,
    build_music_flamingo,
    build_phi4,
    build_qwen3_omni,
    build_qwen25_omni,
    build_voxtral,
)
from tests.tiny_models import build_qwen2_audio


class _Card(ModelCard):
    """One whose prompt is made here."""

    model_class: Any

    def __init__(self, folder: Path) -> None:
        self.extractor: Any = AutoFeatureExtractor.from_pretrained(folder)
        self.model: Any = self.load(folder).eval()
        self.end_ids = set(self.model.generation_config.eos_token_id)
        self.inputs = lru_cache(maxsize=4)(self.make_inputs)  # type: ignore[method-assign]

    def load(self, folder: Path) -> Any:
        return self.model_class.from_pretrained(folder)

    def make_inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        """What the model is given."""
        raise NotImplementedError


class VoxtralCard(_Card):
    """As `mistral_common` writes a prompt: instructions beside audio, which it refuses, apart."""

    model_class = VoxtralForConditionalGeneration

    def make_inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        control = {token: id_ for id_, token in TEKKEN_CONTROL.items()}
        ids = [control["<s>"]]
        instructions: list[int] = []
        for message in prompt.messages:
            match message.role:
                case "system":
                    instructions += _bytes(message) + [TEKKEN_SPECIALS + ord("\n")] * 2
                case "user":
                    ids += [control["[INST]"], *instructions]
                    for part in message.parts:
                        if isinstance(part, AudioPart):
                            ids += [control["[BEGIN_AUDIO]"], *[control["[AUDIO]"]] * 375]
                        else:
                            ids += _bytes(Message("", "user", (part,)))
                    ids += [control["[/INST]"]]
                    instructions = []
                case "assistant":
                    ids += [*_bytes(message), control["</s>"]]
        inputs = {"input_ids": torch.tensor([ids])}
        if heard := audios(prompt):
            inputs["input_features"] = self.extractor(
                heard, sampling_rate=16_000, return_tensors="pt"
            )["input_features"]
        return inputs


class _TemplateCard(_Card):
    """One whose prompt the chat template writes, and whose processor widens each sound's token."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def make_inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        text = self.tokenizer.apply_chat_template(
            self.chat(prompt), add_generation_prompt=True, tokenize=False
        )
        heard = audios(prompt)
        features, lengths = self.features(heard) if heard else ({}, [])
        audio_token = self.tokenizer.convert_ids_to_tokens(self.audio_token_id)
        pieces = text.split(audio_token)
        widened = "".join(
            self.widened(audio_token, length) + piece
            for piece, length in zip(pieces[1:], lengths, strict=True)
        )
        widened = pieces[0] + widened
        ids = self.tokenizer(widened, return_tensors="pt", add_special_tokens=False)
        return {**ids, **features}

    @property
    def audio_token_id(self) -> int:
        return self.model.config.audio_token_id

    def widened(self, audio_token: str, length: int) -> str:
        """What the processor writes for a sound."""
        return audio_token * length

    def chat(self, prompt: Prompt) -> list[dict[str, Any]]:
        """What the template takes."""
        return conversation(prompt)

    def features(self, heard: list[Any]) -> tuple[dict[str, torch.Tensor], list[int]]:
        """What the model is given of sounds, and how many tokens each of them takes."""
        raise NotImplementedError


class Qwen25OmniCard(_TemplateCard):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        template = json.loads((folder / "chat_template.json").read_text())
        self.tokenizer.chat_template = template["chat_template"]

    model_class = Qwen2_5OmniThinkerForConditionalGeneration

    def features(self, heard: list[Any]) -> tuple[dict[str, torch.Tensor], list[int]]:
        features = self.extractor(
            heard,
            sampling_rate=16_000,
            padding="max_length",
            return_attention_mask=True,
            return_tensors="pt",
        )
        in_use = features["attention_mask"]
        inputs = {
            "input_features": features["input_features"],
            "feature_attention_mask": in_use,
        }
        return inputs, self.tokens(in_use.sum(-1)).tolist()

    def tokens(self, frames: torch.Tensor) -> torch.Tensor:
        return qwen25_processing._get_feat_extract_output_lengths(frames)


class Qwen3OmniCard(Qwen25OmniCard):
    """Each sound is encoded alone: of several, all are padded to the second that the longest
    begins, and the last positions of each hear that.
    """

    model_class = Qwen3OmniMoeThinkerForConditionalGeneration

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        together = self.model.model.get_audio_features

        def alone(
            input_features: torch.Tensor,
            feature_attention_mask: torch.Tensor,
            *_: Any,
            **options: Any,
        ) -> Any:
            outputs = [
                together(features[None], mask[None], **options)
                for features, mask in zip(input_features, feature_attention_mask, strict=True)
            ]
            outputs[0].last_hidden_state = torch.cat([each.last_hidden_state for each in outputs])
            return outputs[0]

        self.model.model.get_audio_features = alone

    def tokens(self, frames: torch.Tensor) -> torch.Tensor:
        return qwen3_processing._get_feat_extract_output_lengths(frames)


class AudioFlamingoCard(_TemplateCard):
    """The library's model; its processor takes one sound, so each is given to one of its own."""

    model_class = AudioFlamingo3ForConditionalGeneration

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.processor: Any = AutoProcessor.from_pretrained(folder)

    def make_inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        """A message's sounds are written one after another, each as the processor writes it."""
        text = ""
        features: list[Any] = []
        for message in prompt.messages:
            sounds = audios(Prompt((message,)))
            texts = [part for part in message.parts if isinstance(part, TextPart)]
            # Whose template begins with instructions where there are none.
            written = self.processor.apply_chat_template(
                conversation(
                    Prompt((Message("", "system", ()), Message("", message.role, tuple(texts))))
                )
            )
            header, said = written.removeprefix("<|im_start|>system\n<|im_end|>\n").split("\n", 1)
            text += header + "\n"
            for sound in sounds:
                one = self.processor(text="<sound>", audio=sound)
                text += self.tokenizer.decode(one["input_ids"][0])
                features.append(one)
            text += said
        if prompt.messages[0].role != "system":
            text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + text
        text += "<|im_start|>assistant\n"
        inputs = dict(self.tokenizer(text, return_tensors="pt", add_special_tokens=False))
        for name in ("input_features", "input_features_mask"):
            if features:
                inputs[name] = torch.cat([one[name] for one in features])
        return inputs


class MusicFlamingoCard(AudioFlamingoCard):
    model_class = MusicFlamingoForConditionalGeneration


class _AdaptedCard(_TemplateCard):
    """Its adapter is added to the weights where there are sounds, as its authors' code has it.

    Sounds are marked in the text, as its card does.
    """

    adapter: str

    def load(self, folder: Path) -> Any:
        self.plain: Any = super().load(folder).eval()
        adapted = super().load(folder)
        add_adapter(adapted, folder / self.adapter)
        return adapted

    def chat(self, prompt: Prompt) -> list[dict[str, Any]]:
        return marked(prompt, "<|audio|>")

    def generate(self, prompt: Prompt, max_new_tokens: int, **options: Any) -> Any:
        if audios(prompt):
            return super().generate(prompt, max_new_tokens, **options)
        # What the base class takes from `self.model`.
        inputs = {**self.inputs(prompt), "return_dict_in_generate": True, "output_logits": True}
        return self.plain.generate(**inputs, max_new_tokens=max_new_tokens, **options)


class Phi4Card(_AdaptedCard):
    """Each sound is encoded alone: the encoder hears the padding of a batch."""

    model_class = Phi4MultimodalForCausalLM
    adapter = "speech-lora"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        encoder = self.model.model.embed_tokens_extend.audio_embed.encoder
        together = encoder.forward

        def alone(features: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
            if mask is None:
                return together(features, None)
            lengths = mask.sum(-1)
            encoded = [
                together(each[None, :length], None)[0]
                for each, length in zip(features, lengths, strict=True)
            ]
            return torch.nn.utils.rnn.pad_sequence(encoded, batch_first=True)

        encoder.forward = alone

    @property
    def audio_token_id(self) -> int:
        return self.model.config.audio_config.audio_token_id

    def features(self, heard: list[Any]) -> tuple[dict[str, torch.Tensor], list[int]]:
        features = self.extractor(heard, sampling_rate=16_000, return_tensors="pt")
        return dict(features), features["audio_embed_sizes"].tolist()


class Gemma3nCard(_TemplateCard):
    """What one says in a row is one message, which its template insists on.

    Each sound is encoded alone: the encoder hears the padding of a batch.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        together = self.model.model.get_audio_features

        def alone(features: torch.Tensor, padding: torch.Tensor, **options: Any) -> Any:
            outputs = []
            for each, mask in zip(features, padding, strict=True):
                frames = int(each.any(-1).nonzero().max()) + 1
                outputs.append(together(each[None, :frames], mask[None, :frames], **options))
            pad = torch.nn.utils.rnn.pad_sequence
            heard = outputs[0]
            heard.audio_mel_mask = pad(
                [each.audio_mel_mask[0] for each in outputs], batch_first=True, padding_value=True
            )
            heard.pooler_output = pad([each.pooler_output[0] for each in outputs], batch_first=True)
            return heard

        self.model.model.get_audio_features = alone

    def load(self, folder: Path) -> Any:
        config = Gemma3n().part(AutoConfig.from_pretrained(folder))
        return Gemma3nForConditionalGeneration.from_pretrained(folder, config=config)

    def chat(self, prompt: Prompt) -> list[dict[str, Any]]:
        system, *rest = conversation(prompt)
        merged: list[dict[str, Any]] = []
        if system["role"] == "system":
            merged.append(system)
        else:
            rest = [system, *rest]
        for message in rest:
            if message["role"] == "assistant" and (not merged or merged[-1]["role"] == "system"):
                merged.append({"role": "user", "content": []})
            if merged and merged[-1]["role"] == message["role"]:
                content = merged[-1]["content"] + message["content"]
                merged[-1] = {"role": message["role"], "content": content}
            else:
                merged.append(message)
        return merged

    def features(self, heard: list[Any]) -> tuple[dict[str, torch.Tensor], list[int]]:
        alone = [self.extractor(sound, return_tensors="pt") for sound in heard]
        names = ("input_features", "input_features_mask")
        pad = torch.nn.utils.rnn.pad_sequence
        together = {
            name: pad([each[name][0] for each in alone], batch_first=True) for name in names
        }
        return together, [188] * len(heard)

    def widened(self, audio_token: str, length: int) -> str:
        return f"\n\n<start_of_audio>{audio_token * length}<end_of_audio>\n\n"


class Gemma4Card(_TemplateCard):
    model_class = Gemma4ForConditionalGeneration

    def features(self, heard: list[Any]) -> tuple[dict[str, torch.Tensor], list[int]]:
        features = self.extractor(heard, return_tensors="pt")
        # Its processor counts what two convolutions leave of the frames.
        in_use = features["input_features_mask"][:, ::2][:, ::2]
        return dict(features), in_use.sum(-1).tolist()

    def widened(self, audio_token: str, length: int) -> str:
        return f"<|audio>{audio_token * length}<audio|>"


class Gemma4UnifiedCard(Gemma4Card):
    model_class = Gemma4UnifiedForConditionalGeneration

    def features(self, heard: list[Any]) -> tuple[dict[str, torch.Tensor], list[int]]:
        features = self.extractor(heard, return_tensors="pt")
        return dict(features), features["input_features_mask"].sum(-1).tolist()


class GraniteSpeechCard(_AdaptedCard):
    """What the library takes from torchaudio is computed here from its definition; each sound is
    encoded alone: the encoder hears the padding of a batch.
    """

    model_class = GraniteSpeechForConditionalGeneration
    adapter = "."

    def __init__(self, folder: Path) -> None:
        self.model: Any = self.load(folder).eval()
        self.end_ids = set(self.model.generation_config.eos_token_id)
        self.inputs = lru_cache(maxsize=4)(self.make_inputs)  # type: ignore[method-assign]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        together = self.model.model.get_audio_features

        def alone(features: torch.Tensor, **options: Any) -> Any:
            outputs = [
                together(each[None, : int(each.any(-1).nonzero().max()) + 1], **options)
                for each in features
            ]
            encoded = [each.pooler_output[0] for each in outputs]
            outputs[0].pooler_output = torch.nn.utils.rnn.pad_sequence(encoded, batch_first=True)
            return outputs[0]

        self.model.model.get_audio_features = alone

    def features(self, heard: list[Any]) -> tuple[dict[str, torch.Tensor], list[int]]:
        alone = [self.log_mel(sound) for sound in heard]
        # Three tokens for every fifteen pairs of spectra.
        lengths = [3 * -(-len(pairs) // 15) for pairs in alone]
        mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        together = torch.nn.utils.rnn.pad_sequence(alone, batch_first=True)
        return {"input_features": together, "input_features_mask": mask}, lengths

    def log_mel(self, sound: Any) -> torch.Tensor:
        framed = np.lib.stride_tricks.sliding_window_view(np.pad(sound, 256, mode="reflect"), 512)
        # The window lies in the middle of what is transformed.
        window = np.pad(np.hanning(401)[:400], 56)
        power = np.abs(np.fft.rfft(framed[::160].astype(np.float64) * window)) ** 2
        log = np.log10(np.maximum(power @ mel_filter_bank(257, 80, 0.0, 8000.0, 16_000), 1e-10))
        log = np.maximum(log, log.max() - 8) / 4 + 1
        pairs = log[: len(log) // 2 * 2].reshape(-1, 160)
        return torch.from_numpy(pairs.astype(np.float32))


class GlmAsrCard(_TemplateCard):
    """Each sound is given to a processor of its own, which takes one."""

    model_class = GlmAsrForConditionalGeneration

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.processor: Any = AutoProcessor.from_pretrained(folder)

    def features(self, heard: list[Any]) -> tuple[dict[str, torch.Tensor], list[int]]:
        alone = [self.processor(text="<|pad|>", audio=sound) for sound in heard]
        names = ("input_features", "input_features_mask")
        together = {name: torch.cat([each[name] for each in alone]) for name in names}
        return together, [each["input_ids"].shape[1] for each in alone]


def marked(prompt: Prompt, marker: str) -> list[dict[str, Any]]:
    """Messages of one text each, with a marker for each sound."""
    return [
        {
            "role": message.role,
            "content": "".join(
                part.text if isinstance(part, TextPart) else marker for part in message.parts
            ),
        }
        for message in prompt.messages
    ]


def add_adapter(model: Any, folder: Path) -> None:
    """W + (alpha / r) B A, for each layer of an adapter."""
    config = json.loads((folder / "adapter_config.json").read_text())
    weights = load_file(folder / "adapter_model.safetensors")
    parameters = dict(model.named_parameters())
    for name in [name for name in weights if "lora_A" in name]:
        layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        product = weights[name.replace("lora_A", "lora_B")] @ weights[name]
        parameters[f"{layer}.weight"].data += config["lora_alpha"] / config["r"] * product


def _bytes(message: Message) -> list[int]:
    texts = (part.text for part in message.parts if isinstance(part, TextPart))
    return [TEKKEN_SPECIALS + byte for byte in "".join(texts).encode()]


MODELS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], ModelCard]]] = {
    "audioflamingo3": (build_audio_flamingo, AudioFlamingoCard),
    "gemma3n": (build_gemma3n, Gemma3nCard),
    "gemma4": (build_gemma4, Gemma4Card),
    "gemma4_unified": (build_gemma4_unified, Gemma4UnifiedCard),
    "glmasr": (build_glm_asr, GlmAsrCard),
    "granite_speech": (build_granite_speech, GraniteSpeechCard),
    "musicflamingo": (build_music_flamingo, MusicFlamingoCard),
    "phi4_multimodal": (build_phi4, Phi4Card),
    "qwen2_audio": (build_qwen2_audio, ModelCard),
    "qwen2_5_omni": (build_qwen25_omni, Qwen25OmniCard),
    "qwen3_omni_moe": (build_qwen3_omni, Qwen3OmniCard),
    "voxtral": (build_voxtral, VoxtralCard),
}
"""How a tiny checkpoint is built, and its reference, by architecture."""
