// train_banded: trains a GPT-2 with banded MLP weights on token files.
#include <csignal>
#include <cstdio>
#include <optional>

#include "apps/console.h"
#include "apps/flags.h"
#include "apps/program.h"
#include "core/error.h"
#include "core/require.h"
#include "formats/fault.h"
#include "train/log_writer.h"
#include "train/session.h"

namespace {

using pyllmc::TrainSettings;

// The signal that asked for a stop, 0 while there is none.
volatile std::sig_atomic_t stop_signal = 0;

void on_signal(int signal) {
  stop_signal = signal;
  std::signal(signal, SIG_DFL);  // the second one stops at once
}

struct Choices {
  TrainSettings settings;
  int64_t threads = 0;
  int64_t mask_init = 1;
  int64_t dense = 0;
};

pyllmc::Flags flags_for(Choices& choices) {
  TrainSettings& s = choices.settings;
  pyllmc::Flags flags(
      "train_banded",
      "Trains a GPT-2 whose MLP weights are dense or banded, from an llm.c checkpoint, on token\n"
      "files, on this machine's processors or its GPU.",
      "Examples:\n"
      "  train_banded -1 512 -2 0 -e model.bin -c ckpt.bin -n 5000 -b 16 -t 256 -v 500 -s 1000 \\\n"
      "      -o logs/log_fc1_bw512.txt\n"
      "  train_banded -w 256 -e model.bin -c checkpoint_banded.bin -n 2000\n",
      "A band is stored and multiplied alone where its tiles leave out enough; every other\n"
      "--pattern keeps whole weights under a mask, whatever --execution says.\n"
      "\n"
      "Beside a checkpoint X.bin, X.state/step_<N>/ holds all that --resume needs to go on as if "
      "the\n"
      "run had never stopped, to the last bit; the two newest are kept. What has changed since "
      "then\n"
      "is refused with the difference shown, unless named by --allow-changed NAME,NAME: data,\n"
      "schedule or machine, log, or one setting as a state's manifest.json names it (batch_size,\n"
      "learning_rate, ...). A second program on the same checkpoint is refused. The first Ctrl-C\n"
      "finishes the step, saves and stops; a second one stops at once.\n"
      "Exit codes: 0 done, 1 a file could not be written, 2 usage, 3 diverged (a loss or gradient\n"
      "that is not finite; the checkpoint is left as it was), 4 bad or missing file, 5 no GPU "
      "that\n"
      "can be used, 75 stopped by SIGTERM after saving, 130 stopped by Ctrl-C after saving.\n");
  flags.group("Band (bandwidths are measured on the hidden axis; 0 = dense)");
  flags.integers("1w", "fc1-bandwidth", &s.fc1_bandwidth,
                 "bandwidth of FC1, up from C to 4C; N,N,... = one a layer");
  flags.integers("2", "fc2-bandwidth", &s.fc2_bandwidth,
                 "bandwidth of FC2, down from 4C to C; N,N,... = one a layer");
  flags.integer("d", "dense", &choices.dense, "1 = no band at all, whatever -1, -2 and -w say");
  flags.integer("", "mask-init", &choices.mask_init,
                "1 = mask the initial weights too, 0 = the first step is dense");
  flags.text("", "execution", &s.execution, "NAME",
             "band = store and multiply the band alone, mask = everything");
  flags.text("", "pattern", &s.pattern, "NAME",
             "band, random, block, band-permuted-residual or -hidden");
  flags.integer("", "mask-seed", &s.mask_seed, "seed of patterns that are drawn");
  flags.text("", "init-scale", &s.init_scale, "NAME",
             "of initial weights: none or inverse-sqrt-density");
  flags.group("Files");
  flags.text("e", "model", &s.model, "FILE", "model or checkpoint to start from");
  flags.text("c", "checkpoint", &s.checkpoint, "FILE", "checkpoint to write at the end", "none");
  flags.integer("k", "checkpoint-every", &s.checkpoint_every,
                "write it every N updates too; 0 = only at the end");
  flags.toggle("resume", &s.resume, "continue from the newest state beside -c; without one, start");
  flags.text("", "allow-changed", &s.allow_changed, "NAMES",
             "what may have changed: data, schedule, machine, log, ...", "none");
  flags.text("i", "train-data", &s.train_data, "GLOB", "token files to train on");
  flags.text("j", "val-data", &s.val_data, "GLOB", "token files to validate on");
  flags.text("", "test-data", &s.test_data, "GLOB", "token files for one test loss at the end",
             "none");
  flags.text("o", "log", &s.log, "FILE", "log of losses; FILE.jsonl beside it holds everything",
             "none");
  flags.text("", "tokenizer", &s.tokenizer, "FILE", "tokenizer for samples",
             "beside the training data");
  flags.group("Training");
  flags.integer("n", "steps", &s.steps, "updates; 0 = none, negative = one epoch");
  flags.integer("b", "batch-size", &s.batch_size, "sequences of a batch, B");
  flags.integer("t", "sequence-length", &s.sequence_length, "tokens of a sequence, T",
                "min(1024, maxT)");
  flags.integer("", "accumulate", &s.accumulate, "batches summed into one update");
  flags.text("", "precision", &s.precision, "NAME",
             "fp32, or bf16 (cuda: or tf32) operands with fp32 sums");
  flags.number("l", "learning-rate", &s.learning_rate, "learning rate of AdamW");
  flags.integer("", "warmup", &s.warmup, "updates of linear warm-up");
  flags.number("", "min-lr", &s.min_lr, "cosine decay to this rate at -n", "constant rate");
  flags.number("", "weight-decay", &s.weight_decay, "of matrices, embeddings included");
  flags.number("", "grad-clip", &s.grad_clip, "norm to clip the masked gradient to; 0 = off");
  flags.group("Validation and samples");
  flags.integer("v", "val-every", &s.val_every, "validate every N updates; 0 = first and last");
  flags.integer("m", "val-batches", &s.val_batches, "batches of a validation, always the first");
  flags.integer("", "train-eval-batches", &s.train_eval_batches,
                "batches of training data measured at each validation; 0 = none");
  flags.integer("s", "sample-every", &s.sample_every, "sample every N updates; 0 = at the end");
  flags.integer("g", "sample-length", &s.sample_length, "tokens of a sample; 0 = none");
  flags.group("Seeds and machine");
  flags.action("", "seed", "both seeds below", "", [&s](int64_t value) {
    pyllmc::require_seed("--seed", value);
    s.init_seed = value;
    s.data_seed = value;
  });
  flags.integer("", "init-seed", &s.init_seed, "seed of samples, kept in the checkpoint",
                "the model's, else 1337");
  flags.integer("", "data-seed", &s.data_seed, "seed of the order of the training data");
  flags.text("", "device", &s.device, "NAME", "auto, cpu or cuda; auto = a GPU where there is one");
  flags.integer("", "threads", &choices.threads, "threads; results do not depend on it",
                "all processors");
  return flags;
}

int train(int argc, char** argv) {
  // For tests of what a killed run leaves behind: see formats/fault.h.
  pyllmc::check_fault_plan();
  if (argc == 2 && std::string_view(argv[1]) == "--fault-points") {
    for (const std::string_view name : pyllmc::fault_point_names()) std::puts(name.data());
    return 0;
  }
  Choices choices;
  const pyllmc::Flags flags = flags_for(choices);
  switch (flags.parse(argc, argv)) {
    case pyllmc::Flags::Outcome::help:
      std::fputs(flags.help().c_str(), stdout);
      return 0;
    case pyllmc::Flags::Outcome::version:
      std::printf("train_banded %s\n", pyllmc::version());
      return 0;
    case pyllmc::Flags::Outcome::run:
      break;
  }
  TrainSettings& settings = choices.settings;
  pyllmc::require_between("--mask-init", choices.mask_init, 0, 1);
  pyllmc::require_between("--dense", choices.dense, 0, 1);
  pyllmc::require_between("--threads", choices.threads, 0, pyllmc::kMostThreads);
  settings.mask_init = choices.mask_init == 1;
  if (choices.dense == 1) settings.fc1_bandwidth = settings.fc2_bandwidth = {0};
  settings.threads = static_cast<int>(choices.threads);

  pyllmc::TrainSession session(settings);
  if (const auto& resumed = session.facts().resumed; resumed && resumed->finished) {
    std::printf("nothing to do: the run is finished, %s holds its last step, %lld\n",
                settings.checkpoint.c_str(), static_cast<long long>(resumed->step));
    return 0;
  }
  pyllmc::Console console;
  std::vector<pyllmc::TrainObserver*> observers = {&console};
  std::optional<pyllmc::LogWriter> log;
  if (!settings.log.empty())
    observers.push_back(&log.emplace(settings.log, session.facts().resumed));
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  const pyllmc::EndStatus status = session.run(observers, [] { return stop_signal != 0; });
  if (status != pyllmc::EndStatus::interrupted) return 0;
  return static_cast<int>(stop_signal == SIGTERM ? pyllmc::ExitCode::preempted
                                                 : pyllmc::ExitCode::interrupted);
}

}  // namespace

int main(int argc, char** argv) {
  return pyllmc::run_program("train_banded", argv, [&] { return train(argc, argv); });
}
