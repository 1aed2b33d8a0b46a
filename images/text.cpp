#include "images/text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <fmt/format.h>

namespace coppice::images {

namespace {

constexpr std::string_view kUnits = "KMGTPE";

// Columns are as wide as what they show: bytes that continue a character take no room.
std::size_t width(const std::string& text)
{
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
    }));
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text)
{
    // Digits, then a fraction, then a unit; no sign, no blanks.
    std::size_t at = 0;
    std::uint64_t whole = 0;
    for (; at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) != 0; ++at) {
        const auto digit = static_cast<std::uint64_t>(text[at] - '0');
        if (whole > (UINT64_MAX - digit) / 10) {
            return std::nullopt;
        }
        whole = whole * 10 + digit;
    }
    if (at == 0) {
        return std::nullopt;
    }
    std::uint64_t fraction = 0;
    std::uint64_t fraction_of = 1;
    if (at < text.size() && text[at] == '.') {
        const std::size_t begin = ++at;
        for (; at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) != 0; ++at) {
            if (at - begin >= 6) {
                return std::nullopt;
            }
            fraction = fraction * 10 + static_cast<std::uint64_t>(text[at] - '0');
            fraction_of *= 10;
        }
        if (at == begin) {
            return std::nullopt;
        }
    }
    unsigned shift = 0;
    if (at < text.size() && text[at] != 'B' && text[at] != 'b') {
        const char unit = static_cast<char>(std::toupper(static_cast<unsigned char>(text[at])));
        const std::size_t index = kUnits.find(unit);
        if (index == std::string_view::npos) {
            return std::nullopt;
        }
        shift = 10 * (static_cast<unsigned>(index) + 1);
        ++at;
        if (at < text.size() && text[at] == 'i') {
            ++at;
            if (at == text.size()) {
                return std::nullopt;
            }
        }
    }
    if (at < text.size() && (text[at] == 'B' || text[at] == 'b')) {
        ++at;
    }
    if (at != text.size() || whole > UINT64_MAX >> shift || (fraction != 0 && shift == 0)) {
        return std::nullopt;
    }
    const std::uint64_t scaled = whole << shift;
    // At most six digits of a fraction: no overflow up to 1 TiB, and beyond that in parts of it.
    const std::uint64_t rest = shift <= 40 ? (fraction << shift) / fraction_of
                                           : (fraction << 40) / fraction_of << (shift - 40);
    return scaled > UINT64_MAX - rest ? std::nullopt : std::optional(scaled + rest);
}

std::string size_text(std::uint64_t bytes)
{
    if (bytes < 1024) {
        return fmt::format("{} B", bytes);
    }
    std::size_t unit = 0;
    unsigned shift = 10;
    while (unit + 1 < kUnits.size() && bytes >> shift >= 1024) {
        shift += 10;
        ++unit;
    }
    const double value = static_cast<double>(bytes) / static_cast<double>(1ULL << shift);
    const bool exact = bytes % (1ULL << shift) == 0;
    const int digits = exact ? 0 : value < 10 ? 2 : value < 100 ? 1 : 0;
    return fmt::format("{:.{}f} {}iB", value, digits, kUnits[unit]);
}

std::string count_text(std::uint64_t count)
{
    std::string text = std::to_string(count);
    for (std::size_t i = text.size(); i > 3; i -= 3) {
        text.insert(i - 3, 1, ',');  // by count: g++ 12 warns wrongly of a string here
    }
    return text;
}

std::string time_text(std::uint64_t unix_ns)
{
    if (unix_ns == 0) {
        return "-";
    }
    const auto seconds = static_cast<std::time_t>(unix_ns / 1'000'000'000);
    std::tm local{};
    std::array<char, 40> text{};
    if (localtime_r(&seconds, &local) == nullptr ||
        std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local) == 0) {
        return "?";
    }
    return text.data();
}

std::string plural(std::uint64_t count, std::string_view word)
{
    return fmt::format("{} {}{}", count_text(count), word, count == 1 ? "" : "s");
}

std::string printable(std::string_view text)
{
    std::string result(text);
    std::replace_if(
        result.begin(), result.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7F; }, '?');
    return result;
}

std::string Table::text(std::string_view indent) const
{
    std::vector<std::size_t> widths;
    bool titled = false;
    for (const Column& column : columns_) {
        widths.push_back(width(column.title));
        titled = titled || !column.title.empty();
    }
    for (const auto& row : rows_) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            widths[i] = std::max(widths[i], width(row[i]));
        }
    }
    std::string result;
    const auto line = [&](const auto& cell_at) {
        std::string text(indent);
        for (std::size_t i = 0; i < columns_.size(); ++i) {
            const std::string& cell = cell_at(i);
            const std::string room(widths[i] - width(cell), ' ');
            text += columns_[i].align == Align::right ? room + cell : cell + room;
            text += "  ";
        }
        text.erase(text.find_last_not_of(' ') + 1);
        result += text + "\n";
    };
    if (titled) {
        line([&](std::size_t i) -> const std::string& { return columns_[i].title; });
    }
    for (const auto& row : rows_) {
        line([&](std::size_t i) -> const std::string& { return row[i]; });
    }
    return result;
}

}  // namespace coppice::images
