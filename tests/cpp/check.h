// What the C++ tests need of a test library: they run under sanitizers, which do the looking.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

namespace pyllmc::test {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Registration {
  Registration(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

inline void check(bool good, const char* text, const char* file, int line) {
  if (good) return;
  ++failures();
  std::fprintf(stderr, "%s:%d: not so: %s\n", file, line, text);
}

template <class Error>
bool throws(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error&) {
    return true;
  }
  return false;
}

// A folder that vanishes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "pyllmc-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string get(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace pyllmc::test

#define PYLLMC_JOIN2(a, b) a##b
#define PYLLMC_JOIN(a, b) PYLLMC_JOIN2(a, b)
#define TEST(name)                                                                       \
  static void name();                                                                    \
  static const pyllmc::test::Registration PYLLMC_JOIN(name, _registration)(#name, name); \
  static void name()
#define CHECK(expression) pyllmc::test::check((expression), #expression, __FILE__, __LINE__)
#define CHECK_THROWS(error, expression)                                         \
  pyllmc::test::check(pyllmc::test::throws<error>([&] { (void)(expression); }), \
                      #expression " throws " #error, __FILE__, __LINE__)
