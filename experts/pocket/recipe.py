"""What the runs of `train` are: the base model on drills, an adapter on the questions of its skill or on plans."""

# pyright: reportUnknownMemberType=false
# (torch, transformers and peft leave parts of their signatures untyped)

import json
from pathlib import Path
from random import Random

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from experts.pocket import atlas, drills, lessons, training
from experts.pocket.questions import draw
from experts.pocket.training import Example, Settings
from experts.pocket.vocabulary import BEGIN, CONTEXT, END, IDS, PAD, write_tokenizer

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def new_base(seed: int) -> LlamaForCausalLM:
    """A fresh model: 4 layers of width 192, 6 heads, tied embeddings, about 1.8 million parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(IDS),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=IDS[BEGIN],
        eos_token_id=IDS[END],
        pad_token_id=IDS[PAD],
        attn_implementation="eager",  # pyright: ignore[reportCallIssue]
    )
    return LlamaForCausalLM(config)


def load_base(folder: Path, attention: str = "eager") -> LlamaForCausalLM:
    """The base model in float32. In training, plain attention is faster on a CPU than the fused one."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)


def train(name: str, plan: dict[str, float], out: Path, work: Path, *, resume: bool, device: str = "cpu") -> float:
    """Train the base or one adapter and save it under `out`; returns the seconds spent."""
    settings = Settings(int(plan["steps"]), int(plan["batch"]), plan["rate"], int(plan["seed"]))
    checkpoint = work / f"{name}.pt"
    if name == "base":
        base = new_base(settings.seed).to(device)  # pyright: ignore[reportArgumentType]
        spent = training.fit(base, _drill, settings, name=name, checkpoint=checkpoint, resume=resume, muon=True)
        save_base(base, out / "base")
        return spent
    torch.manual_seed(settings.seed)
    skill = name.removesuffix("-on")
    model = _adapter(out, skill, int(plan["rank"]), new=skill == name).to(device)

    def question(rng: Random) -> Example:
        if skill == "plan":
            return Example(*lessons.lesson(rng))
        if skill == "atlas":
            return atlas.draw(rng)
        if skill != name:
            return Example(*lessons.company(rng, skill))
        asked = draw(skill, "train", rng)
        return Example(asked.prompt, asked.worked)

    spent = training.fit(model, question, settings, name=name, checkpoint=checkpoint, resume=resume)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.bfloat16().cpu()
    model.peft_config["default"].base_model_name_or_path = "experts/pocket/weights/base"
    model.save_pretrained(str(out / skill))
    (out / skill / "README.md").unlink(missing_ok=True)
    described = out / skill / "adapter_config.json"
    config = json.loads(described.read_text()) | {"target_modules": LAYERS}
    described.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return spent


def _adapter(out: Path, skill: str, rank: int, *, new: bool) -> PeftModel:
    """The base with a fresh adapter, or with the one that an earlier run of the skill left."""
    base = load_base(out / "base")
    if not new:
        return PeftModel.from_pretrained(base, out / skill, is_trainable=True)
    lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS, bias="none", task_type="CAUSAL_LM")
    model = get_peft_model(base, lora)
    assert isinstance(model, PeftModel)
    return model


def _drill(rng: Random) -> Example:
    return Example(*drills.draw(rng))


def save_base(base: LlamaForCausalLM, folder: Path) -> None:
    """Weights kept in float16 and read as float32, tokenizer, and a generation configuration that stops at the end.

    Rounding moves a weight by at most 2^-11 of itself, and halves the file.
    """
    base.generation_config = GenerationConfig(
        bos_token_id=IDS[BEGIN], eos_token_id=IDS[END], pad_token_id=IDS[PAD], do_sample=False
    )
    kept = {name: weight.half() for name, weight in base.state_dict().items() if name != "lm_head.weight"}  # tied
    base.save_pretrained(str(folder), state_dict=kept)
    write_tokenizer(folder)
