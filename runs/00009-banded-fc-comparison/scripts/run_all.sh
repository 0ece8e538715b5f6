#!/bin/sh
# Banded sparsity in FC1, FC2 and both
# Made by `pyllmc matrix script runs/00009-banded-fc-comparison`; start it from the repository's root.
# The data must be there (pyllmc data prepare). What it made before is made again.
set -u
TRAIN=${TRAIN:-./train_banded}
PYLLMC=${PYLLMC:-pyllmc}
OUT=${OUT:-runs/00009-banded-fc-comparison}
failed=0

mkdir -p "$OUT/logs" "$OUT/checkpoints"
[ -f "$OUT/model.bin" ] || "$PYLLMC" model init --channels 128 --layers 4 \
    --heads 4 --context 256 --vocab 50257 --init original \
    --seed 1337 -o "$OUT/model.bin" || exit 1

# Baseline
"$TRAIN" -1 0 -2 0 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_baseline.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_baseline.txt" || failed=1

# FC1-1024
"$TRAIN" -1 1024 -2 0 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_fc1_bw1024.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_fc1_bw1024.txt" || failed=1

# FC1-512
"$TRAIN" -1 512 -2 0 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_fc1_bw512.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_fc1_bw512.txt" || failed=1

# FC1-256
"$TRAIN" -1 256 -2 0 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_fc1_bw256.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_fc1_bw256.txt" || failed=1

# FC2-1024
"$TRAIN" -1 0 -2 1024 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_fc2_bw1024.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_fc2_bw1024.txt" || failed=1

# FC2-512
"$TRAIN" -1 0 -2 512 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_fc2_bw512.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_fc2_bw512.txt" || failed=1

# FC2-256
"$TRAIN" -1 0 -2 256 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_fc2_bw256.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_fc2_bw256.txt" || failed=1

# FC1+FC2-1024
"$TRAIN" -1 1024 -2 1024 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_both_bw1024.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_both_bw1024.txt" || failed=1

# FC1+FC2-512
"$TRAIN" -1 512 -2 512 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_both_bw512.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_both_bw512.txt" || failed=1

# FC1+FC2-256
"$TRAIN" -1 256 -2 256 \
    -e "$OUT/model.bin" -c "$OUT/checkpoints/ckpt_both_bw256.bin" \
    -i data/tinystories/TinyStories_train.bin -j data/tinystories/TinyStories_val.bin \
    -n 5000 -b 16 -t 256 -v 500 -s 1000 --mask-init 0 \
    -o "$OUT/logs/log_both_bw256.txt" || failed=1

exit $failed
