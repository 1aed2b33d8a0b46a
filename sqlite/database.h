// A connection to a database, for tests, cuts and benches: SQL in, text out.
#pragma once

#include <cstdint>
#include <sqlite3.h>
#include <string>
#include <vector>

namespace coppice::sqlite {

class Database {
public:
    // `vfs`: nullptr is the host's. What goes wrong shows in `code`.
    Database(const char* name, const char* vfs)
    {
        code_ = sqlite3_open_v2(name, &handle_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs);
        sqlite3_extended_result_codes(handle_, 1);
    }
    ~Database() { close(); }
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    int close()
    {
        sqlite3* handle = handle_;
        handle_ = nullptr;
        return sqlite3_close_v2(handle);
    }

    // Statements, one behind the other up to the first that fails. The extended code.
    int run(const std::string& sql)
    {
        code_ = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
        return code_;
    }

    // All rows of a query, columns parted by `|`, rows by a line end; "error: ..." if it fails.
    std::string ask(const std::string& sql)
    {
        std::string text;
        const auto take_row = [](void* into, int columns, char** values, char**) {
            auto& rows = *static_cast<std::string*>(into);
            rows += rows.empty() ? "" : "\n";
            for (int i = 0; i < columns; ++i) {
                rows += i == 0 ? "" : "|";
                rows += values[i] == nullptr ? "" : values[i];
            }
            return 0;
        };
        code_ = sqlite3_exec(handle_, sql.c_str(), take_row, &text, nullptr);
        return code_ == SQLITE_OK ? text : "error: " + message();
    }

    // Of the last call.
    int code() const { return code_; }
    std::string message() const { return sqlite3_errmsg(handle_); }
    sqlite3* handle() { return handle_; }

private:
    sqlite3* handle_ = nullptr;
    int code_ = SQLITE_OK;
};

}  // namespace coppice::sqlite
