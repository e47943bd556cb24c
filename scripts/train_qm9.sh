#!/usr/bin/env bash
# The four legs in which the bundled qm9 was trained, each from the weights of the one before.
# A leg that is there goes on from its last checkpoint. On 2 CPU cores they took 57 minutes (two
# threads), 11 and 69 minutes (one thread each, beside other work), and 80 minutes (two processes
# of one thread, so 256 molecules a step).
#
#     bash scripts/train_qm9.sh runs
#
# As they were run, leg 1 began with steps=15000, which was cut twice on the way, and leg 3 with
# steps=15500, cut once; decay_fraction kept the learning rate continuous. What is below is what
# remained: the same learning rates from the last cut on.
set -euo pipefail
runs="${1:?usage: train_qm9.sh FOLDER}"
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=67108864

leg() {
  local folder="$1"
  shift
  molbfn train configs/qm9.yaml -o "$folder" --resume "$@"
}

leg "$runs/qm9_leg1" --set training.decay_fraction=0.908
leg "$runs/qm9_leg2" --set training.start_from="$runs/qm9_leg1/model" \
  --set training.steps=1800 --set training.learning_rate=0.002 --set training.warmup_steps=100 \
  --set training.decay_fraction=0.9 --set training.ema=0.998
leg "$runs/qm9_leg3" --set training.start_from="$runs/qm9_leg2/model" \
  --set training.steps=11800 --set training.learning_rate=0.003 --set training.decay_fraction=0.9143 \
  --set training.seed=2
leg "$runs/qm9_leg4" --devices 2 --set training.start_from="$runs/qm9_leg3/model" \
  --set training.steps=11600 --set training.learning_rate=0.004 --set training.decay_fraction=0.93 \
  --set training.seed=3
