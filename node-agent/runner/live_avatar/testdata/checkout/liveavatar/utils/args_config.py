"""Stand-in: upstream reads a YAML file."""


def parse_args_for_training_config(path):
    open(path, "rb").close()
    return {"lora_rank": 128, "lora_alpha": 64.0, "lora_target_modules": "q,k", "init_lora_weights": "kaiming"}
