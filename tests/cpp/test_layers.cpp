#include "check.h"
#include "layers/parameter.h"

using namespace pyllmc;

TEST(a_weight_that_becomes_a_band_loses_its_bf16_copy) {
  ParameterTable table;
  table.add({.name = "whole", .rows = 64, .cols = 32, .is_matrix = true});
  table.add({.name = "band",
             .rows = 512,
             .cols = 128,
             .is_matrix = true,
             .pattern = Pattern::band(512, 128, HiddenAxis::rows, 32)});
  table.allocate(true);
  table.initialize(1);
  table.copy_to_bf16({});
  CHECK(table.find("whole").bf16 && table.find("band").bf16);
  table.store_bands();
  CHECK(table.find("band").band != nullptr);
  CHECK(!table.find("band").bf16);  // on the CPU a band is read in fp32
  CHECK(table.find("whole").bf16.data() == table.bf16() + table.find("whole").offset);
}
