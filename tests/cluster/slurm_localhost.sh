#!/usr/bin/env bash
# Tries `pyllmc matrix run --engine slurm` on a Slurm of its own: munged, slurmctld and slurmd on
# this machine, on free ports, in a temporary folder, ended with the script.
#
# Needs Debian's slurm-wlm (apt-get install slurm-wlm) and a built checkout. A run is preempted in
# mid-run by Slurm's own signal, queued again and resumed, a runner is killed, a matrix is cancelled;
# every log and every weight must be what the local pool makes. Takes about two minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD
for program in munged slurmctld slurmd sbatch scancel; do
  PATH=$PATH:/usr/sbin command -v "$program" > /dev/null \
    || { echo "there is no $program: apt-get install slurm-wlm" >&2; exit 2; }
done
PATH=$repository/.venv/bin:$PATH:/usr/sbin
work=$(mktemp -d)
chmod 755 "$work"

stop() {
  for daemon in slurmd slurmctld munged; do
    if [ -f "$work/$daemon.pid" ]; then kill "$(cat "$work/$daemon.pid")" || true; fi
  done
  sleep 1
  if [ "${failed:-1}" = 0 ]; then rm -rf "$work"; else echo "kept: $work" >&2; fi
}
trap stop EXIT

# A Slurm of one node.
free_port() { python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }
host=$(hostname -s)
export SLURM_CONF=$work/slurm.conf
cat > "$SLURM_CONF" <<END
ClusterName=localhost
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket,cred_expire=10
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldParameters=preempt_send_user_signal
MpiDefault=none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
mkdir "$work/state" "$work/spool"
(umask 077; head -c 1024 /dev/urandom > "$work/munge.key")
munged --force --key-file="$work/munge.key" --socket="$work/munge.socket" \
  --pid-file="$work/munged.pid" --log-file="$work/munged.log" --seed-file="$work/munge.seed"
slurmctld
slurmd -N "$host"
for _ in $(seq 30); do sinfo --noheader | grep -q idle && break; sleep 1; done
sinfo

# runs/demo at a tiny scale.
cd "$work"
cp "$repository/pyllmc/bin/train_banded" .
pyllmc data prepare ministories --stories 400 --out-dir data/ministories > /dev/null
run() {
  pyllmc matrix run "$repository/runs/demo" --program "$work/train_banded" --threads-per-job 1 \
    --only baseline --only both_bw256 --set seeds=[1,2] \
    --set model.channels=64 --set model.layers=2 --set model.heads=2 --set model.context=32 \
    --set steps=3000 --set batch_size=2 --set sequence_length=32 --set val_every=1000 \
    --set val_batches=2 --set sample_every=0 --set sample_length=0 "$@"
}
state() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \
  "$1/cells/$2/state.json" "$3" 2> /dev/null || true; }

run --out slurm --engine slurm --slurm-option partition=debug > slurm.out 2> slurm.err &
runner=$!
until [ "$(state slurm baseline_s1 state)" = running ] && [ "$(state slurm baseline_s1 pid)" != None ]; do
  kill -0 $runner || { cat slurm.err; exit 1; }
  sleep 0.1
done
scancel --signal=USR2 "$(squeue --noheader --format=%A --name=baseline_s1)"
wait $runner || { cat slurm.err; exit 1; }
cat slurm.out
[ "$(state slurm baseline_s1 attempt)" = 2 ] || { echo "baseline_s1 was not preempted" >&2; exit 1; }
[ "$(state slurm both_bw256_s2 attempt)" = 1 ] || { echo "both_bw256_s2 was disturbed" >&2; exit 1; }
grep -q '"--resume"' slurm/cells/baseline_s1/config.json

# Jobs outlive their runner; the next runner leaves what runs alone and runs nothing twice.
engine=(--engine slurm --slurm-option partition=debug)
run --out orphan "${engine[@]}" > /dev/null 2>&1 &
runner=$!
until [ "$(state orphan baseline_s1 pid)" -gt 0 ]; do sleep 0.1; done 2> /dev/null
kill -9 $runner $(pgrep -P $runner)
wait $runner || true
code=75
while [ $code = 75 ]; do
  code=0
  run --out orphan "${engine[@]}" > slurm.out 2> slurm.err || code=$?
done
[ $code = 0 ] || { cat slurm.err; exit 1; }
for cell in baseline_s1 both_bw256_s1 baseline_s2 both_bw256_s2; do
  [ "$(state orphan $cell attempt)" = 1 ] || { echo "$cell was run twice" >&2; exit 1; }
done

# Cancelled runs save, and go on when asked.
run --out cancelled "${engine[@]}" > /dev/null 2> slurm.err &
runner=$!
until [ "$(state cancelled baseline_s1 pid)" -gt 0 ]; do sleep 0.1; done 2> /dev/null
pyllmc matrix cancel "$repository/runs/demo" --out cancelled --set seeds=[1,2] 2> /dev/null
code=0
wait $runner || code=$?
[ $code = 75 ] || { echo "a cancelled matrix ended with $code" >&2; cat slurm.err; exit 1; }
[ "$(state cancelled baseline_s1 state)" = preempted ]
run --out cancelled "${engine[@]}" > /dev/null 2>&1

run --out whole > /dev/null 2>&1
for folder in logs checkpoints; do
  for file in whole/"$folder"/*.txt whole/"$folder"/*.bin; do
    [ -e "$file" ] || continue
    for out in slurm orphan cancelled; do cmp "$file" "$out/$folder/$(basename "$file")"; done
  done
done
failed=0
echo "Slurm made the same bits as the local pool: preempted, without its runner, and cancelled"
