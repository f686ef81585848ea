# The image for a GPU cluster:  docker build -t avc .  and  docker run --gpus all --ipc host -v ~/shards:/shards avc train ...
# With InfiniBand also --ulimit memlock=-1 --network host; see docs/slurm.md. avc.def makes the same image for Apptainer.
#
# A plain Python image rather than a CUDA or PyTorch one: the registry's torch for Linux brings CUDA, cuDNN and NCCL as
# wheels, the host brings the driver, and so constraints.txt alone decides every version, here as on a workstation.
FROM python:3.11-slim-bookworm

# gcc and libc6-dev: torch.compile builds its kernels' launchers with them. libibverbs: NCCL finds InfiniBand by it.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libibverbs1 ibverbs-providers \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/avc

# torch is gigabytes and seldom changes: a layer of its own, which editing the code does not rebuild.
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt torch==2.13.0

COPY pyproject.toml README.md LICENSE ./
COPY shards ./shards
COPY avc ./avc
COPY launch ./launch
COPY configs ./configs
# Installed in place, so that configs/ lies where a checkout has it.
RUN pip install --no-cache-dir -c constraints.txt -e ".[train,store]"

RUN useradd --create-home avc
USER avc

# How long torchrun lets a stop take (docs/torchrun.md).
ENV TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600

# For several processes on a node:  docker run --entrypoint torchrun ... avc --nproc-per-node 8 -m launch.train ...
ENTRYPOINT ["avc"]
CMD ["--help"]
