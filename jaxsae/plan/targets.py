"""Descriptions of the GPUs that XLA compiles for without having one, from NVIDIA's public figures.

The fields are those of XLA's `GpuTargetConfigProto`; compare `xla/tools/hlo_opt/gpu_specs/` in openxla/xla.
"""

# What the H100 and H200 share: both are GH100 with 132 multiprocessors, compute capability 9.0.
HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth} l2_cache_size: {l2} device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 minor: 0 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{name}"
"""

TARGETS = {
    "h100": HOPPER.format(name="NVIDIA H100 80GB HBM3", bandwidth=3_350 * 10**9, l2=50 * 2**20, memory=85_029_158_912),
    "h200": HOPPER.format(name="NVIDIA H200", bandwidth=4_800 * 10**9, l2=60 * 2**20, memory=150_754_820_096),
}
