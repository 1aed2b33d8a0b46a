// JSON of a dump as text for people.
#include <fmt/format.h>

#include "images/dump.h"
#include "images/text.h"

namespace coppice::images {

namespace {

bool ends_with(std::string_view text, std::string_view end)
{
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string plain(const Json& value)
{
    if (value.is_string()) {
        return printable(value.get<std::string>());
    }
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string value_text(const std::string& name, const Json& value)
{
    if (value.is_number_unsigned() && ends_with(name, "_unix_ns")) {
        return fmt::format("{}  ({})", plain(value), time_text(value.get<std::uint64_t>()));
    }
    if (value.is_number_unsigned() && ends_with(name, "_bytes") &&
        value.get<std::uint64_t>() >= 1024) {
        return fmt::format("{}  ({})", plain(value), size_text(value.get<std::uint64_t>()));
    }
    return plain(value);
}

// A node pointer fits one line.
std::string pointer_text(const Json& pointer)
{
    if (pointer["block"] == 0) {
        return "-";
    }
    std::string text = fmt::format("block {}, birth {}, checksum {}", plain(pointer["block"]),
                                   plain(pointer["birth"]), plain(pointer["checksum"]));
    if (pointer["mirror"] != 0) {
        text += fmt::format(", mirror {}", plain(pointer["mirror"]));
    }
    return text;
}

bool is_pointer(const Json& value)
{
    return value.is_object() && value.size() == 4 && value.contains("mirror");
}

}  // namespace

std::string fields_text(const Json& json, std::string_view indent)
{
    Table table({{""}, {""}});
    for (const auto& [name, value] : json.items()) {
        table.add({name, is_pointer(value) ? pointer_text(value) : value_text(name, value)});
    }
    return table.text(indent);
}

std::string line_text(const Json& json)
{
    std::string text;
    for (const auto& [name, value] : json.items()) {
        const bool empty = (value.is_string() && value.get<std::string>().empty()) ||
                           (name == "flags" && value == 0);
        if (empty) {
            continue;
        }
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name,
                            is_pointer(value) ? "(" + pointer_text(value) + ")" : plain(value));
    }
    return text;
}

}  // namespace coppice::images
