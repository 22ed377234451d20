#!/bin/bash
# A run on the nodes of a Slurm job: sbatch slurm.sh. What you may have to change stands at the top.
#SBATCH --job-name=arpo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=arpo-%j.log
#SBATCH --open-mode=append
# Slurm starts the job again after a preemption; before its time is over it is told so, saves, and asks for another turn.
#SBATCH --requeue
#SBATCH --signal=B:USR1@600

set -euo pipefail
umask 077

# All nodes see these paths, and the same environment of Python, which has arpo-envs[cluster,vllm].
RUN="$SLURM_SUBMIT_DIR/runs/arpo-$SLURM_JOB_ID" # the same after a requeue
POLICY="$SLURM_SUBMIT_DIR/models/policy"
# source "$SLURM_SUBMIT_DIR/.venv/bin/activate"

head=$(hostname)
address=$(hostname --ip-address | cut -d' ' -f1)
port=6379
gpus=$SLURM_GPUS_ON_NODE
workers=$((SLURM_NNODES - 1))
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # srun does not take it over by itself

# A token that only this job knows, as whoever reaches the cluster can run code on it. It goes to the nodes with the environment.
RAY_AUTH_TOKEN=$(openssl rand -hex 32)
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_ADDRESS="$address:$port"

# GPU 0 of the first node is the learner's; engines get all others. Ray runs in this script, not in a step of its own, because
# Slurm sends SIGTERM to steps: the learner must still have Ray while it saves.
CUDA_VISIBLE_DEVICES=$(seq -s, 1 $((gpus - 1))) ray start --head --node-ip-address="$address" --port="$port" \
  --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus=$((gpus - 1)) --include-dashboard=false --block &
if ((workers > 0)); then
  srun --nodes="$workers" --ntasks="$workers" --ntasks-per-node=1 --exclude="$head" \
    ray start --address="$RAY_ADDRESS" --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block &
fi

# Says what each node has, and ends the job if one is missing or has other versions.
arpo doctor --cluster --nodes "$SLURM_NNODES"

if [[ -f "$RUN/config.json" ]]; then
  command=(arpo train --resume "$RUN")
else
  command=(arpo train --output "$RUN" --cluster ray --engines $((SLURM_NNODES * gpus - 1)) --policy "$POLICY"
    --device cuda --engine vllm --prompts 256 --checkpoint-every 5)
fi
over="" trainer=""
trap 'over=yes again=yes; [[ -z "$trainer" ]] || kill -TERM "$trainer"' USR1
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" env CUDA_VISIBLE_DEVICES=0 "${command[@]}" &
trainer=$!

again=yes
while [[ -n "$again" ]]; do # after the signal once more: it ends the wait, not the trainer
  again="" status=0
  wait "$trainer" || status=$?
done
if [[ -n "$over" && "$status" -ne 0 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
