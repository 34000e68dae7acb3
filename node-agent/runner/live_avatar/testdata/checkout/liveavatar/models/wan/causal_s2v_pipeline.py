"""
Stand-in for upstream's single-GPU pipeline: its names, the order of its calls and the shapes of its tensors, without
its arithmetic. What must never run when the runner drives it fails. A prompt that begins with `fault:` makes it fail in
a named way.
"""

import os
import random
import time

import torch
from PIL import Image

#: Seconds of a denoising step, so that a test can act in the middle of a clip.
STEP_SECONDS = 0.001


#: What a call with the prompt "leak" leaves behind.
leaked = []


def tqdm(_timesteps):
    raise AssertionError("the runner listens here")


class _Timesteps(list):
    def cpu(self):
        return self


class FlowMatchEulerDiscreteScheduler:
    def __init__(self, num_train_timesteps, shift):
        assert shift == 3

    def set_timesteps(self, steps, device):
        self.timesteps = _Timesteps(1000 - 10 * step for step in range(steps))
        self.sigmas = self.timesteps

    def step(self, prediction, _timestep, sample, return_dict, generator):
        return (torch.Tensor(sample.shape, sample.dtype, torch.mix(prediction.tag, sample.tag)),)


class _Module:
    """A module without parameters."""

    def to(self, *_, **__):
        return self

    def cpu(self):
        return self

    def requires_grad_(self, _wanted):
        return self

    def eval(self):
        return self

    def parameters(self):
        return []


class T5EncoderModel:
    def __init__(self, path):
        open(path, "rb").close()
        self.model = _Module()

    def __call__(self, texts, _device):
        return [torch.Tensor((20, 4096), tag=torch.mix(text)) for text in texts]


class Wan2_1_VAE:
    def __init__(self, path):
        open(path, "rb").close()
        self.model, self.dtype, self.device = _Module(), torch.bfloat16, "cuda:0"
        self.encoded = []

    def encode(self, videos):
        _, _, frames, height, width = videos.shape
        self.encoded.append(frames)
        return [torch.Tensor((16, 1 + (frames - 1) // 4, height // 8, width // 8), tag=torch.mix(videos.tag, frames))]

    def decode(self, _latents):
        raise AssertionError("the deferred decode must never run")


class AudioEncoder:
    def __init__(self):
        self.model = _Module()


class CausalWanModel_S2V(_Module):
    @classmethod
    def from_pretrained(cls, directory, torch_dtype, device_map):
        assert os.path.isdir(directory)
        model = cls()
        model.weights = torch.Tensor((1 << 30,), torch_dtype)
        return model

    def __call__(self, latents, t, context, audio_input, kv_cache, sink_flag=False, **_named):
        assert latents[0].shape[:2] == (16, 3) and len(kv_cache) == 1
        if sink_flag:
            return None
        time.sleep(STEP_SECONDS)
        distance = random.randint(4, 30)
        tag = torch.mix(latents[0].tag, context[0].tag, audio_input.tag, distance, t)
        return [torch.Tensor(latents[0].shape, torch.bfloat16, tag)]


class WanS2V:
    def __init__(self, config, checkpoint_dir, device_id, rank, init_on_cpu, convert_model_dtype, single_gpu):
        assert not init_on_cpu and convert_model_dtype and single_gpu
        self.device, self.param_dtype, self.motion_frames = "cuda:0", config.param_dtype, 73
        self.text_encoder = T5EncoderModel(os.path.join(checkpoint_dir, "models_t5_umt5-xxl-enc-bf16.pth"))
        self.vae = Wan2_1_VAE(os.path.join(checkpoint_dir, config.vae_checkpoint))
        self.noise_model = CausalWanModel_S2V.from_pretrained(
            checkpoint_dir, torch_dtype=self.param_dtype, device_map=self.device
        )
        self.audio_encoder = AudioEncoder()

    def add_lora_to_model(self, model, pretrained_lora_path, **_named):
        open(pretrained_lora_path, "rb").close()
        return model

    def encode_audio(self, path, infer_frames):
        with open(path, "rb") as file:
            seconds = (len(file.read()) - 44) / 32000
        clips = int(int(((seconds * 16000 - 400) // 320 + 1) / 50 * 30) / 57.6) + 1
        emb = torch.zeros((infer_frames * clips, 25, 1024), dtype=torch.bfloat16)
        for frame in range(infer_frames * clips):
            emb._data[frame * 51200] = 1 + frame % 255
            emb._data[frame * 51200 + 1] = 1 + frame // 255
        return torch.Tensor((1, 25, 1024, infer_frames * clips), torch.bfloat16, data=emb._data), clips

    def encode_prompt(self, _prompt, _negative, _offload):
        raise AssertionError("the runner encodes prompts once")

    def load_pose_cond(self, pose_video, num_repeat, infer_frames, size):
        assert pose_video is None
        return self.vae.encode(torch.Tensor((1, 3, infer_frames + 1, *size)))

    def generate(
        self,
        input_prompt,
        ref_image_path,
        audio_path,
        num_repeat,
        max_area,
        infer_frames,
        shift,
        sample_solver,
        sampling_steps,
        guide_scale,
        seed,
        offload_model,
        num_gpus_dit,
        enable_vae_parallel,
        enable_online_decode,
    ):
        assert not offload_model and not enable_online_decode and infer_frames == 48 and "+" not in audio_path
        width, height = Image.open(ref_image_path).size
        assert width * height == max_area
        self.audio_encoder.model.to(device=self.device, dtype=self.param_dtype)
        self.vae.model.to(self.device)
        audio_emb, nr = self.encode_audio(audio_path, infer_frames=infer_frames)
        self.audio_encoder.model.to("cpu")
        num_repeat = min(num_repeat, nr)
        with open(ref_image_path, "rb") as file:
            picture = torch.mix(file.read())
        ref_latents = torch.stack(self.vae.encode(torch.Tensor((1, 3, 5, height, width), tag=picture)))[:, :, 1:]
        motion = torch.Tensor((1, 3, 5 * self.motion_frames, height, width), tag=picture)
        motion_latents = torch.stack(self.vae.encode(motion))
        COND = self.load_pose_cond(
            pose_video=None, num_repeat=num_repeat, infer_frames=infer_frames, size=(height, width)
        )
        context, _ = self.encode_prompt(input_prompt, "", offload_model)
        sample_scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3)
        out, clip_outputs = [], []
        self.kv_cache1 = None
        for r in range(num_repeat):
            assert len(clip_outputs) <= 1, "finished clips pile up"
            seed_g = torch.Generator(device=self.device)
            seed_g.manual_seed(seed + r)
            clip_noise = torch.randn(
                16, 12, height // 8, width // 8, dtype=self.param_dtype, device=self.device, generator=seed_g
            )
            clip_output = torch.zeros_like(clip_noise)
            if self.kv_cache1 is None:
                counter = torch.tensor([0], dtype=torch.long, device="cuda:0")
                assert counter.device == "cpu", "the runner keeps the counter on the host"
                shape = (1, 12 * (height // 16) * (width // 16), 40, 128)
                self.kv_cache1 = {
                    str(step + 1): [{"k": torch.Tensor(shape), "v": torch.Tensor(shape), "cond_end": counter}]
                    for step in range(4)
                }
            audio_input = audio_emb[..., r * infer_frames : (r + 1) * infer_frames]
            conditions = {"context": context[0:1], "ref_latents": ref_latents, "motion_latents": motion_latents.clone()}
            conditions["cond_states"] = COND[0]
            if r == 0:
                for step in range(4):
                    self.noise_model(
                        [clip_noise[:, :3]],
                        t=0,
                        audio_input=audio_input[..., 0:12],
                        kv_cache=self.kv_cache1[str(step + 1)],
                        sink_flag=True,
                        **conditions,
                    )
            for block in range(4):
                if getattr(self, "_sampler_timesteps", None) is None:
                    sample_scheduler.set_timesteps(sampling_steps, device=self.device)
                    self._sampler_timesteps = sample_scheduler.timesteps
                block_latents = clip_noise[:, block * 3 : block * 3 + 3]
                for i, t in enumerate(tqdm(self._sampler_timesteps)):
                    _fault(input_prompt, r, block)
                    if input_prompt == "leak":
                        leaked[:] = [self.noise_model]
                    prediction = self.noise_model(
                        [block_latents],
                        t=t,
                        audio_input=audio_input[..., block * 12 : block * 12 + 12],
                        kv_cache=self.kv_cache1[str(i + 1)],
                        **conditions,
                    )
                    block_latents = sample_scheduler.step(
                        prediction[0].unsqueeze(0), t, block_latents.unsqueeze(0), return_dict=False, generator=seed_g
                    )[0].squeeze(0)
            clip_outputs.append(clip_output.detach().cpu())
        raise AssertionError("a model call is left before its end")


def _fault(prompt, clip, block):
    if not prompt.startswith("fault:") or (clip, block) != (1, 2):
        return
    fault = prompt.removeprefix("fault:")
    if fault == "memory":
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has 79.10 GiB in total.\nMore."
        )
    if fault == "device":
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA.")
    raise ValueError(f"unknown fault {fault}")
