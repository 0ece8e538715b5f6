// Places at which a test may kill the program, to prove that what is on disk then suffices.
// PYLLMC_FAULT=kill@<point> sends this process SIGKILL when it first comes to the point,
// kill@<point>:<n> when it does so for the n-th time. `train_banded --fault-points` lists them.
#pragma once

#include <string_view>
#include <vector>

namespace pyllmc {

// In the order in which a run with a checkpoint and a log comes to them.
#define PYLLMC_FAULT_POINTS(point)                                                    \
  point(resume_chosen)             /* a state is chosen, nothing is changed yet */    \
      point(resume_text_cut)       /* of the two logs, only the .txt is cut */        \
      point(resume_logs_cut)       /* both are */                                     \
      point(update_made)           /* an update is logged, and nothing saved */       \
      point(file_written)          /* a file is complete under its temporary name */  \
      point(file_renamed)          /* and in place, but its folder is not synced */   \
      point(checkpoint_logged)     /* the log speaks of a checkpoint without state */ \
      point(state_folder_made)     /* empty, under its temporary name */              \
      point(state_tensor_written)  /* one of the tensors */                           \
      point(state_tensors_written) /* all of them, not synced */                      \
      point(state_tensors_synced)  /* but there is no manifest */                     \
      point(state_manifest_half)   /* half of the manifest is written */              \
      point(state_manifest_synced) /* complete, but the folder is not synced */       \
      point(state_folder_synced)   /* but it bears its temporary name */              \
      point(state_renamed)         /* but the folder above is not synced */           \
      point(state_kept)            /* durable; older ones are still there */          \
      point(state_trashed)         /* an older one is renamed for deletion */         \
      point(state_trash_half)      /* and has lost its manifest */                    \
      point(state_trash_deleted)                                                      \
          point(run_ended)  /* all is saved, the log's last line is missing */        \
      point(run_end_logged) /* the run is not marked as finished */

enum class FaultPoint {
#define PYLLMC_FAULT_POINT(name) name,
  PYLLMC_FAULT_POINTS(PYLLMC_FAULT_POINT)
#undef PYLLMC_FAULT_POINT
};

// Dies here when the plan says so.
void fault_point(FaultPoint point);

// Names of all points.
std::vector<std::string_view> fault_point_names();

// Throws UsageError when PYLLMC_FAULT is set to what is no plan: a test that kills nothing would
// prove nothing.
void check_fault_plan();

}  // namespace pyllmc
