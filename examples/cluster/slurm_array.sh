#!/bin/bash
# Features by an array of 64 Slurm jobs, which share a folder: sbatch slurm_array.sh SOURCE STORE
# A job that fails is run again as `sbatch --array=7 slurm_array.sh SOURCE STORE`; it goes on where it stopped.
# Afterwards: topwork store merge STORE
#SBATCH --job-name=features
#SBATCH --array=0-63
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --requeue
set -euo pipefail
shards=64 # as many as the whole array has: SLURM_ARRAY_TASK_COUNT is that of this submission
topwork extract "$1" --store "$2" --shard "$SLURM_ARRAY_TASK_ID/$shards"
