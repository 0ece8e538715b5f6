// CRC-32 as zlib, gzip and PNG have it (polynomial 0xEDB88320): any tool can check our files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace pyllmc {

// Of bytes that follow those whose CRC is `crc`; 0 at the start.
uint32_t crc32(const void* data, size_t bytes, uint32_t crc = 0);

// As our files write it: eight hexadecimal digits.
std::string crc32_text(uint32_t crc);

}  // namespace pyllmc
