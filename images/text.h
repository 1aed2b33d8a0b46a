// Sizes, times, names and tables as people read and write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::images {

// "4096", "512M", "10G", "1.5T", "10GiB": powers of 1024. None when it is not a size or does not
// fit.
std::optional<std::uint64_t> parse_size(std::string_view text);

// "10 GiB", "1.5 MiB", "512 B".
std::string size_text(std::uint64_t bytes);
// "1,234,567".
std::string count_text(std::uint64_t count);
// "2026-11-21 13:45:10" in local time; "-" for 0.
std::string time_text(std::uint64_t unix_ns);
// "1 block", "2 blocks".
std::string plural(std::uint64_t count, std::string_view word);
// What a terminal should not see becomes "?".
std::string printable(std::string_view text);

// Columns as wide as their widest cell.
class Table {
public:
    enum class Align : std::uint8_t { left, right };
    struct Column {
        std::string title;
        Align align = Align::left;
    };

    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
    void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
    bool empty() const { return rows_.empty(); }
    // With a line of titles, unless all are empty.
    std::string text(std::string_view indent = "") const;

private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

}  // namespace coppice::images
