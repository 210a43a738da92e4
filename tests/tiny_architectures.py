"""Builds tiny checkpoints with random weights, one of each architecture that is served besides
Qwen2-Audio (`tests/tiny_models.py`): the real architecture, and the files that its authors publish.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    Gemma3nAudioFeatureExtractor,
    Gemma3nConfig,
    Gemma3nForConditionalGeneration,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4UnifiedAudioFeatureExtractor,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    GlmAsrConfig,
    GlmAsrForConditionalGeneration,
    GlmAsrProcessor,
    GraniteSpeechConfig,
    GraniteSpeechForConditionalGeneration,
    MusicFlamingoConfig,
    MusicFlamingoForConditionalGeneration,
    MusicFlamingoProcessor,
    Phi4MultimodalConfig,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalForCausalLM,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen3OmniMoeThinkerConfig,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    VoxtralConfig,
    VoxtralForConditionalGeneration,
    WhisperFeatureExtractor,
)

from assistant.engines.transformers.models.gemma3n import Gemma3n
from assistant.engines.transformers.models.voxtral import Voxtral
from tests.tiny_models import CONTEXT_TOKENS, byte_level_tokenizer, fill, greedy_and_printable

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_TOKENS,
}
"""A language model's sizes."""
WHISPER = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 128,
}
"""An audio encoder's sizes."""

TEKKEN_SPECIALS = 100
TEKKEN_CONTROL = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "[INST]",
    4: "[/INST]",
    5: "[AVAILABLE_TOOLS]",
    6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]",
    8: "[/TOOL_RESULTS]",
    9: "[TOOL_CALLS]",
    19: "[TOOL_CONTENT]",
    24: "[AUDIO]",
    25: "[BEGIN_AUDIO]",
    32: "[ARGS]",
    33: "[CALL_ID]",
    34: "[TRANSCRIBE]",
}


def build_voxtral(folder: Path) -> Path:
    """Its tokenizer is Mistral's file of bytes, behind as many control tokens."""
    tekken = {
        "config": {
            "pattern": r"\p{L}+|\p{N}|[^\p{L}\p{N}]",
            "num_vocab_tokens": 256,
            "default_vocab_size": TEKKEN_SPECIALS + 256,
            "default_num_special_tokens": TEKKEN_SPECIALS,
            "version": "v7",
        },
        "vocab": [
            {"rank": byte, "token_bytes": base64.b64encode(bytes([byte])).decode()}
            for byte in range(256)
        ],
        "special_tokens": [
            {"rank": rank, "token_str": TEKKEN_CONTROL.get(rank, f"<SPECIAL_{rank}>")}
            for rank in range(TEKKEN_SPECIALS)
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tekken.json").write_text(json.dumps(tekken))
    config = VoxtralConfig(
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        text_config={**TEXT, "vocab_size": TEKKEN_SPECIALS + 256, "head_dim": 8},
        audio_token_id=24,
    )
    model = VoxtralForConditionalGeneration(config)
    fill(model)
    tokenizer, _ = Voxtral().front_end(_with_extractor(folder))
    model.generation_config = greedy_and_printable(
        tokenizer, config.text_config.vocab_size, ends=["</s>"]
    )
    model.save_pretrained(folder)
    return folder


CHATML = """
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {{- AUDIO if part.type == 'audio' else part.text }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
"""The form of Qwen's templates; `AUDIO` stands for what a sound is written as."""
EYES = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16}


def build_qwen25_omni(folder: Path) -> Path:
    """A whole checkpoint's names: beside the thinker, it holds a talker."""
    thinker = {
        "audio_config": {**WHISPER, "output_dim": TEXT["hidden_size"]},
        "vision_config": {**EYES, "out_hidden_size": TEXT["hidden_size"]},
        "text_config": {
            **TEXT,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [1, 1, 2],
            },
        },
    }
    return _build_omni(
        folder,
        Qwen2_5OmniThinkerConfig(**thinker),
        Qwen2_5OmniThinkerForConditionalGeneration,
        audio=("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"),
    )


def build_qwen3_omni(folder: Path) -> Path:
    thinker = {
        "audio_config": {
            **WHISPER,
            "output_dim": TEXT["hidden_size"],
            "downsample_hidden_size": 8,
        },
        "vision_config": {**EYES, "out_hidden_size": TEXT["hidden_size"]},
        "text_config": {
            **TEXT,
            "head_dim": 8,
            "moe_intermediate_size": 16,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
    }
    return _build_omni(
        folder,
        Qwen3OmniMoeThinkerConfig(**thinker),
        Qwen3OmniMoeThinkerForConditionalGeneration,
        audio=("<|audio_start|>", "<|audio_pad|>", "<|audio_end|>"),
    )


def _build_omni(folder: Path, config: Any, model_class: Any, audio: tuple[str, str, str]) -> Path:
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", *audio]
    tokenizer = byte_level_tokenizer(control=control)
    tokenizer.chat_template = CHATML.replace("AUDIO", repr("".join(audio)))
    begin, config.audio_token_id, config.audio_end_token_id = map(
        tokenizer.convert_tokens_to_ids, audio
    )
    config.audio_start_token_id = begin
    config.vision_start_token_id = tokenizer.convert_tokens_to_ids("<|vision_start|>")
    config.text_config.vocab_size = len(tokenizer)
    model = model_class(config)
    fill(model)
    model.generation_config = greedy_and_printable(
        tokenizer, len(tokenizer), ends=["<|im_end|>", "<|endoftext|>"]
    )
    model.save_pretrained(_with_extractor(folder, chunk_length=60))
    tokenizer.save_pretrained(folder)
    # The talker's weights lie beside the thinker's.
    weights = load_file(folder / "model.safetensors")
    published = {name if name.startswith("thinker.") else f"thinker.{name}" for name in weights}
    assert len(published) == len(weights)
    weights = {"thinker." + name.removeprefix("thinker."): weights[name] for name in weights}
    weights["talker.codec_head.weight"] = torch.zeros(4, 4)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    whole = {
        "model_type": config.model_type.removesuffix("_thinker"),
        "thinker_config": json.loads((folder / "config.json").read_text()),
    }
    (folder / "config.json").write_text(json.dumps(whole))
    # As it was published, before templates had a file of their own.
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    return folder


FLAMINGO = """
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {{- '<sound>' if message.content | selectattr('type', 'equalto', 'audio') | list }}
        {%- for part in message.content if part.type == 'text' %}
            {{- part.text }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
"""Theirs writes one marker before a message's texts, however many sounds it holds."""


def build_audio_flamingo(folder: Path) -> Path:
    return _build_flamingo(
        folder,
        AudioFlamingo3Config,
        AudioFlamingo3ForConditionalGeneration,
        AudioFlamingo3Processor,
    )


def build_music_flamingo(folder: Path) -> Path:
    return _build_flamingo(
        folder, MusicFlamingoConfig, MusicFlamingoForConditionalGeneration, MusicFlamingoProcessor
    )


def _build_flamingo(folder: Path, config_class: Any, model_class: Any, processor: Any) -> Path:
    audio = ["<sound>", "<|sound_bos|>", "<|sound_eos|>"]
    tokenizer = byte_level_tokenizer(
        control=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *audio]
    )
    config = config_class(
        audio_config={
            "model_type": "audioflamingo3_encoder",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        text_config={**TEXT, "vocab_size": len(tokenizer)},
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )
    model = model_class(config)
    fill(model)
    model.generation_config = greedy_and_printable(
        tokenizer, len(tokenizer), ends=["<|im_end|>", "<|endoftext|>"]
    )
    model.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
    processor(extractor, tokenizer, chat_template=FLAMINGO).save_pretrained(folder)
    return folder


GEMMA = """
{{- bos_token }}
{%- set first = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}
{%- for message in messages[1 if messages[0].role == 'system' else 0:] %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}
    {{- first if loop.first }}
    {%- if message.content is string %}
        {{- message.content | trim }}
    {%- else %}
        {%- for part in message.content %}
            {{- '<audio_soft_token>' if part.type == 'audio' else part.text | trim }}
        {%- endfor %}
    {%- endif %}
    {{- '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\n' }}
{%- endif %}
"""


def build_gemma3n(folder: Path) -> Path:
    """Windows of 24 tokens; the last two of six layers look at what the two before them keep."""
    control = ["<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_audio>"]
    # Those of pictures and sounds come behind the ones of text.
    beyond = ["<image>", "<end_of_audio>", "<audio_soft_token>", "<audio_padding>"]
    tokenizer = byte_level_tokenizer(control=[*control, *beyond])
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    tokenizer.chat_template = GEMMA
    id_of = tokenizer.convert_tokens_to_ids
    config = Gemma3nConfig(
        text_config={
            **TEXT,
            "num_hidden_layers": 6,
            "num_kv_shared_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
            "activation_sparsity_pattern": [0.0] * 6,
            "head_dim": 8,
            "sliding_window": 24,
            "vocab_size": len(tokenizer),
            "vocab_size_per_layer_input": id_of("<image>"),
            "hidden_size_per_layer_input": 4,
            "laurel_rank": 4,
        },
        audio_config={
            "hidden_size": 16,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 1,
            "sscp_conv_channel_size": (4, 4),
            "vocab_offset": id_of("<end_of_audio>"),
            "vocab_size": 3,
        },
        vision_config={"hidden_size": 16, "vocab_offset": id_of("<image>"), "vocab_size": 1},
        audio_token_id=id_of("<audio_soft_token>"),
        boa_token_id=id_of("<start_of_audio>"),
        eoa_token_id=id_of("<end_of_audio>"),
        audio_soft_tokens_per_image=188,
    )
    model = Gemma3nForConditionalGeneration(Gemma3n().part(config))
    fill(model)
    generation = greedy_and_printable(tokenizer, len(tokenizer), ends=["<end_of_turn>", "<eos>"])
    # Its template trims what was said.
    generation.suppress_tokens += tokenizer.encode(" ")
    model.generation_config = generation
    model.save_pretrained(folder)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Gemma3nAudioFeatureExtractor().save_pretrained(folder)
    return folder


GEMMA4 = """
{{- bos_token }}
{%- for message in messages %}
    {{- '<|turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}
    {%- if message.content is string %}
        {{- message.content | trim }}
    {%- else %}
        {%- for part in message.content %}
            {{- '<|audio|>' if part.type == 'audio' else part.text | trim }}
        {%- endfor %}
    {%- endif %}
    {{- '<turn|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|turn>model\n' }}
{%- endif %}
"""


def build_gemma4(folder: Path) -> Path:
    """As Gemma 3n, and those layers that see all have heads of twice the width."""
    return _build_gemma4(
        folder,
        Gemma4Config,
        Gemma4ForConditionalGeneration,
        Gemma4AudioFeatureExtractor(),
        text={"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 4},
        audio_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            # The first is as many as there are mel bins.
            "subsampling_conv_channels": [128, 4],
            "output_proj_dims": 24,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "position_embedding_size": 16,
        },
    )


def build_gemma4_unified(folder: Path) -> Path:
    """The one that hears without an encoder; its keys are its values in layers that see all."""
    return _build_gemma4(
        folder,
        Gemma4UnifiedConfig,
        Gemma4UnifiedForConditionalGeneration,
        Gemma4UnifiedAudioFeatureExtractor(),
        text={"attention_k_eq_v": True, "num_global_key_value_heads": 1},
        audio_config={},
        vision_config={"mm_embed_dim": 16, "mm_posemb_size": 16, "output_proj_dims": 32},
    )


def _build_gemma4(
    folder: Path,
    config_class: Any,
    model_class: Any,
    extractor: Any,
    text: dict[str, Any],
    **senses: dict[str, Any],
) -> Path:
    control = ["<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|audio>", "<|audio|>", "<audio|>"]
    tokenizer = byte_level_tokenizer(control=[*control, "<|image|>", "<|video|>"])
    tokenizer.add_special_tokens({"bos_token": "<bos>", "pad_token": "<pad>"})
    tokenizer.chat_template = GEMMA4
    id_of = tokenizer.convert_tokens_to_ids
    config = config_class(
        text_config={
            **TEXT,
            "num_hidden_layers": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
            "head_dim": 8,
            "global_head_dim": 16,
            "sliding_window": 24,
            "vocab_size": len(tokenizer),
            "vocab_size_per_layer_input": len(tokenizer),
            "pad_token_id": id_of("<pad>"),
            "final_logit_softcapping": 30.0,
            **text,
        },
        **senses,
        audio_token_id=id_of("<|audio|>"),
        boa_token_id=id_of("<|audio>"),
        eoa_token_index=id_of("<audio|>"),
        image_token_id=id_of("<|image|>"),
        video_token_id=id_of("<|video|>"),
    )
    model = model_class(config)
    fill(model)
    generation = greedy_and_printable(tokenizer, len(tokenizer), ends=["<turn|>", "<eos>"])
    # Its template trims what was said.
    generation.suppress_tokens += tokenizer.encode(" ")
    model.generation_config = generation
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # As it was published: one file for all that goes before the model.
    front_end = {"feature_extractor": json.loads(extractor.to_json_string())}
    (folder / "processor_config.json").write_text(json.dumps(front_end))
    return folder


PHI = """
{%- for message in messages %}
    {{- '<|' + message.role + '|>' + message.content + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""


def build_phi4(folder: Path) -> Path:
    """Beside its weights lies the adapter with which it understands speech."""
    control = ["<|endoftext|>", "<|audio|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer = byte_level_tokenizer(control=control)
    tokenizer.chat_template = PHI
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    factors = [1.0 + 0.1 * number for number in range(4)]
    config = Phi4MultimodalConfig(
        **TEXT,
        vocab_size=len(tokenizer),
        original_max_position_embeddings=4096,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "short_factor": factors,
            "long_factor": [2 * factor for factor in factors],
        },
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_blocks": 1,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 16,
            "depthwise_separable_out_channel": 16,
            "nemo_conv_channels": 8,
            "audio_token_id": tokenizer.convert_tokens_to_ids("<|audio|>"),
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "crop_size": 28,
        },
        bos_token_id=end,
        pad_token_id=end,
        eos_token_id=end,
    )
    model = Phi4MultimodalForCausalLM(config)
    fill(model)
    model.generation_config = greedy_and_printable(
        tokenizer, len(tokenizer), ends=["<|end|>", "<|endoftext|>"]
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Phi4MultimodalFeatureExtractor().save_pretrained(folder)
    build_adapter(folder / "speech-lora", model, ["qkv_proj", "down_proj"])
    return folder


def build_granite_speech(folder: Path) -> Path:
    """Beside its weights lies the adapter with which it understands speech."""
    control = ["<|endoftext|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|audio|>"]
    tokenizer = byte_level_tokenizer(control=control)
    tokenizer.chat_template = PHI
    # As in the published one, the last token has no embedding.
    audio = tokenizer.convert_tokens_to_ids("<|audio|>")
    config = GraniteSpeechConfig(
        text_config={"model_type": "granite", **TEXT, "vocab_size": audio},
        encoder_config={
            "num_layers": 2,
            "hidden_dim": 16,
            "num_heads": 2,
            "output_dim": 8,
            "context_size": 20,
            "max_pos_emb": 32,
            "conv_kernel_size": 5,
        },
        projector_config={
            "model_type": "blip_2_qformer",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "encoder_hidden_size": 16,
        },
        audio_token_index=audio,
        tie_word_embeddings=False,
    )
    model = GraniteSpeechForConditionalGeneration(config)
    fill(model)
    model.generation_config = greedy_and_printable(
        tokenizer, audio, ends=["<|end|>", "<|endoftext|>"]
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    front_end = {
        "feature_extractor_type": "GraniteSpeechFeatureExtractor",
        "melspec_kwargs": {
            "sample_rate": 16_000,
            "n_fft": 512,
            "win_length": 400,
            "hop_length": 160,
            "n_mels": 80,
        },
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(front_end))
    build_adapter(folder, model, ["q_proj", "v_proj"])
    return folder


def build_glm_asr(folder: Path) -> Path:
    """One that has no entry."""
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    tokenizer = byte_level_tokenizer(control=control)
    config = GlmAsrConfig(
        audio_config={
            "model_type": "glmasr_encoder",
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(tokenizer)},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
        tie_word_embeddings=False,
    )
    model = GlmAsrForConditionalGeneration(config)
    fill(model)
    model.generation_config = greedy_and_printable(
        tokenizer, len(tokenizer), ends=["<|im_end|>", "<|endoftext|>"]
    )
    model.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
    template = CHATML.replace("AUDIO", "'<|pad|>'")
    GlmAsrProcessor(extractor, tokenizer, chat_template=template).save_pretrained(folder)
    return folder


def build_adapter(folder: Path, model: Any, target_modules: list[str]) -> Path:
    """One as PEFT keeps it, for these layers of the language model."""
    numbers = np.random.Generator(np.random.PCG64(1))
    rank, weights = 4, {}
    for name, module in model.named_modules():
        if ".layers." in name and "encoder" not in name and name.endswith(tuple(target_modules)):
            for letter, shape in (
                ("A", (rank, module.in_features)),
                ("B", (module.out_features, rank)),
            ):
                values = torch.from_numpy(numbers.normal(0, 0.3, shape).astype(np.float32))
                weights[f"base_model.model.{name}.lora_{letter}.weight"] = values
    assert weights
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, "target_modules": target_modules}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _with_extractor(folder: Path, chunk_length: int = 30) -> Path:
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=chunk_length)
    extractor.save_pretrained(folder)
    return folder
