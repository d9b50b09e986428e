"""One process of several of a Hugging Face Trainer, with 13 rows in batches of 4."""

import json
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from imbalance import FrequencyBuckets
from imbalance.integrations.huggingface import LossByClassCallback

found = sys.argv[1]
torch.manual_seed(0)
torch.set_num_threads(1)
config = LlamaConfig(
    vocab_size=20,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
)
token = torch.randint(0, 20, (13, 6))
rows = [{"input_ids": row, "labels": row} for row in token]
arguments = TrainingArguments(
    output_dir=f"{found}.trainer",
    num_train_epochs=1,
    learning_rate=0.0,
    per_device_train_batch_size=4,
    per_device_eval_batch_size=4,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    disable_tqdm=True,
    use_cpu=True,
    ddp_backend="gloo",
)
trainer = Trainer(
    model=LlamaForCausalLM(config), args=arguments, train_dataset=rows, eval_dataset=rows
)
callback = LossByClassCallback(FrequencyBuckets.from_counts(range(1, 21), 3)).add_to(trainer)
trainer.train()
evaluated = trainer.evaluate()
report = {
    "logs": trainer.state.log_history,
    "evaluated": evaluated,
    "losses": callback.latest["evaluation"].state_dict(),
    "trained": callback.latest["training"].count.tolist(),
    "token": token.tolist(),
    "processes": trainer.args.world_size,
}
with open(found, "w") as file:
    json.dump(report, file)
