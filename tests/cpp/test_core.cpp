#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "check.h"
#include "core/bf16.h"
#include "core/error.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/random.h"
#include "formats/crc32.h"

using namespace pyllmc;

TEST(bf16_keeps_its_own_values_and_rounds_to_even) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto value = static_cast<uint16_t>(bits);
    CHECK(bf16_from_float(float_from_bf16(value)) == value);
  }
  CHECK(bf16_from_float(1 + 0x1p-8f) == 0x3f80);
  CHECK(bf16_from_float(1 + 3 * 0x1p-8f) == 0x3f82);
  CHECK(bf16_from_float(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(std::isnan(float_from_bf16(bf16_from_float(std::bit_cast<float>(0x7f800001u)))));
}

TEST(philox_gives_the_published_numbers) {
  // Random123's known answers for counter 0 and key 0.
  const Philox random(fnv1a("name"), "name");
  const Philox::Block block = random.block(0);
  CHECK((block == Philox::Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
}

TEST(philox_fills_are_prefixes_of_each_other) {
  const Philox random(7, "w");
  std::vector<float> longer(1003), shorter(998);
  random.fill_normal(longer.data(), 1003, 0.5);
  random.fill_normal(shorter.data(), 998, 0.5);
  CHECK(std::memcmp(longer.data(), shorter.data(), shorter.size() * sizeof(float)) == 0);
  random.fill_uniform(longer.data(), 1003, -2, 3);
  for (const float x : longer) CHECK(x >= -2 && x <= 3);
}

TEST(shuffle_is_a_permutation) {
  ShuffleGenerator generator(42);
  std::vector<int64_t> items = {0, 1, 2, 3, 4, 5, 6};
  generator.permute(items);
  std::vector<bool> seen(items.size());
  for (const int64_t item : items) seen[static_cast<size_t>(item)] = true;
  CHECK(std::find(seen.begin(), seen.end(), false) == seen.end());
  std::vector<int64_t> none;
  generator.permute(none);
}

TEST(json_is_whole_whatever_goes_in) {
  const JsonValue written(JsonValue::Object{
      {"nan", std::nan("")},
      {"least", std::numeric_limits<int64_t>::min()},
      {"text", std::string("\"\\\n\0\xff\xc3", 6)},
      {"none", {}},
  });
  const JsonValue value = JsonValue::parse(written.text());
  CHECK(value.at("nan").is_null());
  CHECK(value.at("least").integer() == std::numeric_limits<int64_t>::min());
  CHECK(value.at("text").string() == std::string("\"\\\n\0\xef\xbf\xbd\xef\xbf\xbd", 10));
}

TEST(json_documents_survive_a_round_and_every_cut) {
  const std::string text =
      R"({"a":[1,-2.5e-300,true,null,{"b":"\u00e9\ud83d\ude00\n"}],"c":{},"d":[],"e":9223372036854775807})";
  const JsonValue value = JsonValue::parse(text);
  CHECK(JsonValue::parse(value.text()).text() == value.text());
  CHECK(value.at("e").integer() == INT64_MAX);
  for (size_t end = 0; end < text.size(); ++end) {
    CHECK_THROWS(FormatError, JsonValue::parse(text.substr(0, end)));
  }
  CHECK_THROWS(FormatError, JsonValue::parse(std::string(1 << 20, '[')));
  CHECK_THROWS(FormatError, JsonValue::parse("9223372036854775808"));
  CHECK_THROWS(FormatError, value.at("a").integer());
}

TEST(arena_counts_what_it_hands_out) {
  const auto lay_out = [](Arena& arena) {
    const Tensor a = arena.reserve({3, 5});
    const auto b = arena.reserve<int32_t>({7});
    return std::pair{a, b};
  };
  Arena counting;
  lay_out(counting);
  Arena arena(allocate(counting.bytes(), "test"), counting.bytes());
  const auto [a, b] = lay_out(arena);
  for (int64_t i = 0; i < a.numel(); ++i) CHECK(a.data()[i] == 0);
  for (int64_t i = 0; i < a.numel(); ++i) a.data()[i] = 1;
  for (int64_t i = 0; i < b.numel(); ++i) CHECK(b.data()[i] == 0);
  for (int64_t i = 0; i < b.numel(); ++i) b.data()[i] = 2;
  CHECK(a.data()[a.numel() - 1] == 1);
  CHECK(reinterpret_cast<uintptr_t>(b.data()) % 64 == 0);
  CHECK_THROWS(UsageError, allocate(INT64_MAX / 2, "test"));
}

TEST(crc32_is_zlibs_and_may_be_taken_in_pieces) {
  const std::string text = "123456789";
  CHECK(crc32(text.data(), text.size()) == 0xcbf43926u);
  CHECK(crc32(text.data() + 4, 5, crc32(text.data(), 4)) == 0xcbf43926u);
  CHECK(crc32_text(0xabc) == "00000abc");
}
