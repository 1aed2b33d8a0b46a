#include "format/sim/toy_store.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "format/base/checksum.h"

namespace coppice::sim {

namespace {

using Bytes = std::vector<std::byte>;

struct ToyVolume {
    VolumeInfo info;
    Bytes bytes;
};

struct ToyState {
    std::uint64_t next_id = 1;
    std::map<std::uint64_t, ToyVolume> volumes;
};

constexpr std::uint64_t kHalfBytes = 64 << 20;
constexpr std::uint64_t kToyMagic = 0x594f54;

struct Header {
    std::uint64_t magic = kToyMagic;
    std::uint64_t generation = 0;
    std::uint64_t length = 0;
    std::uint64_t checksum = 0;
};

void put(Bytes& out, const void* data, std::size_t length)
{
    const auto* bytes = static_cast<const std::byte*>(data);
    out.insert(out.end(), bytes, bytes + length);
}

template <typename Value>
void put(Bytes& out, Value value)
{
    put(out, &value, sizeof(value));
}

template <typename Value>
Value take(std::span<const std::byte>& in)
{
    Value value{};
    if (in.size() >= sizeof(value)) {
        std::memcpy(&value, in.data(), sizeof(value));
        in = in.subspan(sizeof(value));
    }
    return value;
}

Bytes serialise(const ToyState& state)
{
    Bytes out;
    put(out, state.next_id);
    put<std::uint64_t>(out, state.volumes.size());
    for (const auto& [id, volume] : state.volumes) {
        put(out, id);
        put<std::uint64_t>(out, volume.info.snapshot ? 1 : 0);
        put(out, volume.info.parent.value);
        put(out, volume.info.group.value);
        put<std::uint64_t>(out, volume.info.name.size());
        put(out, volume.info.name.data(), volume.info.name.size());
        put<std::uint64_t>(out, volume.bytes.size());
        put(out, volume.bytes.data(), volume.bytes.size());
    }
    return out;
}

ToyState parse(std::span<const std::byte> in)
{
    ToyState state;
    state.next_id = take<std::uint64_t>(in);
    for (auto count = take<std::uint64_t>(in); count > 0 && !in.empty(); --count) {
        ToyVolume volume;
        volume.info.id = VolumeId(take<std::uint64_t>(in));
        volume.info.snapshot = take<std::uint64_t>(in) != 0;
        volume.info.parent = VolumeId(take<std::uint64_t>(in));
        volume.info.group = ConsistencyGroup(take<std::uint64_t>(in));
        const auto name = std::min<std::uint64_t>(take<std::uint64_t>(in), in.size());
        for (std::uint64_t i = 0; i < name; ++i) {
            volume.info.name.push_back(static_cast<char>(in[i]));
        }
        in = in.subspan(name);
        const auto length = std::min<std::uint64_t>(take<std::uint64_t>(in), in.size());
        volume.bytes.assign(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(length));
        in = in.subspan(length);
        volume.info.size_bytes = length;
        state.volumes[volume.info.id.value] = std::move(volume);
    }
    return state;
}

class ToyStore final : public Store {
public:
    ToyStore(Disk& disk, ToyFault fault, bool read_only)
        : disk_(disk), tasks_(disk.tasks()), fault_(fault), read_only_(read_only), lock_(tasks_)
    {
    }

    Status load();
    Status save();

    Status close() override { return save(); }
    void abandon() override {}
    void tick() override {}
    void pause() override {}
    void resume() override {}
    bool read_only() const override { return read_only_ || poisoned_; }
    ImageInfo info() override { return {}; }
    Statistics statistics() const override { return {}; }

    std::vector<VolumeInfo> volumes() override
    {
        std::vector<VolumeInfo> found;
        for (const auto& [id, volume] : state_.volumes) {
            found.push_back(volume.info);
        }
        return found;
    }
    Result<VolumeInfo> volume(VolumeId id) override { return state_.volumes.at(id.value).info; }
    Result<VolumeInfo> find(const std::string&, std::optional<VolumeId>) override
    {
        return fail(ErrorCode::not_supported, "toy");
    }

    Result<VolumeId> create_volume(const NewVolume& wanted) override
    {
        return add(wanted.name, Bytes(wanted.size_bytes), false, VolumeId(0));
    }
    Result<VolumeId> snapshot(VolumeId id, const NewSnapshot& wanted) override
    {
        return add(wanted.name, bytes(id), true, id);
    }
    Result<VolumeId> clone_volume(VolumeId id, const std::string& name, bool) override
    {
        return add(name, bytes(id), false, id);
    }
    Status remove(VolumeId id) override
    {
        state_.volumes.erase(id.value);
        return save();
    }
    Status rollback(VolumeId id, VolumeId snapshot) override
    {
        bytes(id) = Bytes(bytes(snapshot));
        state_.volumes.at(id.value).info.size_bytes = bytes(id).size();
        return fault_ == ToyFault::rollback_not_durable ? Status() : save();
    }
    Status resize(VolumeId id, std::uint64_t size_bytes) override
    {
        bytes(id).resize(size_bytes);
        state_.volumes.at(id.value).info.size_bytes = size_bytes;
        return save();
    }
    Status rename(VolumeId id, const std::string& name) override
    {
        state_.volumes.at(id.value).info.name = name;
        return save();
    }
    Status set_flush_mode(VolumeId id, FlushMode mode) override
    {
        // What is always durable is ordered too.
        state_.volumes.at(id.value).info.flush = mode;
        return save();
    }

    Status set_group(VolumeId id, ConsistencyGroup group) override
    {
        // All volumes are saved together: they are one group anyway.
        state_.volumes.at(id.value).info.group = group;
        return save();
    }
    Result<std::vector<VolumeId>> snapshot_group(ConsistencyGroup group, const std::string& name,
                                                 bool) override
    {
        std::vector<VolumeId> made;
        const ToyState before = state_;
        for (const auto& [id, volume] : before.volumes) {
            if (volume.info.group == group) {
                made.push_back(put_in(name, volume.bytes, true, volume.info.id));
            }
        }
        COPPICE_TRY(save());
        return made;
    }

    Status read(VolumeId id, std::uint64_t offset, std::span<const iovec> into) override
    {
        tasks_.yield();
        for (const iovec& buffer : into) {
            std::memcpy(buffer.iov_base, bytes(id).data() + offset, buffer.iov_len);
            offset += buffer.iov_len;
        }
        return {};
    }
    Status write(VolumeId id, std::uint64_t offset, std::span<const iovec> from, bool fua) override;
    Status deallocate(VolumeId id, std::span<const Range> ranges) override
    {
        tasks_.yield();
        for (const Range& range : ranges) {
            std::memset(bytes(id).data() + range.offset_bytes, 0, range.length_bytes);
        }
        return {};
    }
    Status write_zeroes(VolumeId id, Range range) override { return deallocate(id, {&range, 1}); }
    Status clone(VolumeId id, std::uint64_t offset, std::span<const CloneSource> sources) override;
    Status flush(VolumeId) override { return save(); }
    Result<BlockStatus> block_status(VolumeId, Range) override
    {
        return fail(ErrorCode::not_supported, "toy");
    }
    Status checkpoint() override { return save(); }
    Status settle() override { return {}; }
    Status trim() override { return {}; }
    Result<TransactionId> begin(VolumeId) override { return fail(ErrorCode::not_supported, "toy"); }
    Status commit(TransactionId, bool) override { return fail(ErrorCode::not_supported, "toy"); }
    Status abort(TransactionId) override { return fail(ErrorCode::not_supported, "toy"); }
    Result<VolumeId> volume_of(TransactionId) override { return fail(ErrorCode::not_found, "toy"); }

    Result<StreamId> open_stream(VolumeId) override
    {
        return fail(ErrorCode::not_supported, "toy");
    }
    Status close_stream(VolumeId, StreamId) override
    {
        return fail(ErrorCode::not_supported, "toy");
    }
    Status perform(const Operation& operation) override
    {
        using Kind = Operation::Kind;
        switch (operation.kind) {
        case Kind::read: return read(operation.volume, operation.offset_bytes, operation.buffers);
        case Kind::write:
            return write(operation.volume, operation.offset_bytes, operation.buffers,
                         operation.fua);
        case Kind::flush: return flush(operation.volume);
        case Kind::deallocate: return deallocate(operation.volume, operation.ranges);
        case Kind::write_zeroes:
            return write_zeroes(operation.volume, {operation.offset_bytes, operation.length_bytes});
        case Kind::clone: return clone(operation.volume, operation.offset_bytes, operation.sources);
        case Kind::write_ranges:
        case Kind::commit: return fail(ErrorCode::not_supported, "toy");
        }
        return {};
    }

    void submit(const Operation& operation, Completion completion) override
    {
        tasks_.spawn([this, operation, completion = std::move(completion)] {
            completion(perform(operation));
        });
    }

    ToyState state_;

private:
    Bytes& bytes(VolumeId id) { return state_.volumes.at(id.value).bytes; }

    VolumeId put_in(const std::string& name, Bytes contents, bool snapshot, VolumeId parent)
    {
        ToyVolume made;
        made.info.id = VolumeId(state_.next_id++);
        made.info.name = name;
        made.info.snapshot = snapshot;
        made.info.parent = parent;
        made.info.size_bytes = contents.size();
        made.bytes = std::move(contents);
        const VolumeId id = made.info.id;
        state_.volumes[id.value] = std::move(made);
        return id;
    }

    Result<VolumeId> add(const std::string& name, Bytes contents, bool snapshot, VolumeId parent)
    {
        const VolumeId id = put_in(name, std::move(contents), snapshot, parent);
        if (Status status = save(); !status) {
            return pass_on(status);
        }
        return id;
    }

    Disk& disk_;
    Tasks& tasks_;
    ToyFault fault_;
    bool read_only_;
    bool poisoned_ = false;
    TaskMutex lock_;
    std::uint64_t generation_ = 0;
};

Status ToyStore::write(VolumeId id, std::uint64_t offset, std::span<const iovec> from, bool fua)
{
    Bytes data;
    for (const iovec& buffer : from) {
        put(data, buffer.iov_base, buffer.iov_len);
    }
    if (fault_ == ToyFault::forgets_partial_block) {
        // Reads whole blocks, gives way, writes them back.
        const std::uint64_t first = offset / kBlockBytes * kBlockBytes;
        const std::uint64_t end = std::min<std::uint64_t>(
            divide_up(offset + data.size(), kBlockBytes) * kBlockBytes, bytes(id).size());
        const auto begin = bytes(id).begin();
        Bytes blocks(begin + static_cast<std::ptrdiff_t>(first),
                     begin + static_cast<std::ptrdiff_t>(end));
        tasks_.yield();
        std::memcpy(blocks.data() + (offset - first), data.data(), data.size());
        std::memcpy(bytes(id).data() + first, blocks.data(), blocks.size());
    } else {
        tasks_.yield();
        const std::size_t half = data.size() / 1024 * 512;
        std::memcpy(bytes(id).data() + offset, data.data(), half);
        if (fault_ == ToyFault::tears_writes) {
            tasks_.yield();
        }
        std::memcpy(bytes(id).data() + offset + half, data.data() + half, data.size() - half);
        if (fault_ == ToyFault::snapshot_moves) {
            for (auto& [other, volume] : state_.volumes) {
                if (volume.info.snapshot && volume.info.parent == id &&
                    offset + data.size() <= volume.bytes.size()) {
                    std::memcpy(volume.bytes.data() + offset, data.data(), data.size());
                }
            }
        }
    }
    return fua ? save() : Status();
}

Status ToyStore::clone(VolumeId id, std::uint64_t offset, std::span<const CloneSource> sources)
{
    tasks_.yield();
    if (fault_ == ToyFault::clone_reads_late) {
        for (const CloneSource& source : sources) {
            for (std::uint64_t i = 0; i < source.range.length_bytes; i += kSectorBytes) {
                std::memmove(bytes(id).data() + offset,
                             bytes(source.volume).data() + source.range.offset_bytes + i,
                             kSectorBytes);
                offset += kSectorBytes;
            }
        }
        return {};
    }
    Bytes data;
    for (const CloneSource& source : sources) {
        put(data, bytes(source.volume).data() + source.range.offset_bytes,
            source.range.length_bytes);
    }
    std::memcpy(bytes(id).data() + offset, data.data(), data.size());
    return {};
}

Status ToyStore::save()
{
    lock_.lock();
    if (poisoned_) {
        // Perhaps while this waited: the other half is the last one that is whole.
        lock_.unlock();
        return fail(ErrorCode::poisoned, "an earlier sync failed");
    }
    Bytes out = serialise(state_);
    Header header;
    header.generation = ++generation_;
    header.length = out.size();
    header.checksum = data_checksum(out);
    Bytes whole;
    put(whole, header);
    put(whole, out.data(), out.size());
    whole.resize(divide_up(whole.size(), kBlockBytes) * kBlockBytes);
    const std::uint64_t half = fault_ == ToyFault::one_half_only ? 0 : generation_ % 2;
    if (fault_ == ToyFault::acknowledges_before_write) {
        tasks_.spawn([this, half, whole] {
            static_cast<void>(disk_.write(half * kHalfBytes, whole));
            static_cast<void>(disk_.sync());
            lock_.unlock();
        });
        return {};
    }
    Status status = disk_.write(half * kHalfBytes, whole);
    if (status && fault_ != ToyFault::acknowledges_before_sync) {
        status = disk_.sync();
        if (fault_ == ToyFault::keeps_failed_sync) {
            status = {};
        }
    }
    poisoned_ = poisoned_ || !status;
    lock_.unlock();
    return status;
}

Status ToyStore::load()
{
    bool found = false;
    for (const std::uint64_t half : {0U, 1U}) {
        Bytes block(kBlockBytes);
        COPPICE_TRY(disk_.read(half * kHalfBytes, block));
        Header header;
        std::memcpy(&header, block.data(), sizeof(header));
        if (header.magic != kToyMagic || header.length > kHalfBytes) {
            continue;
        }
        Bytes whole(divide_up(sizeof(header) + header.length, kBlockBytes) * kBlockBytes);
        COPPICE_TRY(disk_.read(half * kHalfBytes, whole));
        const auto body = std::span<const std::byte>(whole).subspan(sizeof(header), header.length);
        if (data_checksum(body) != header.checksum && fault_ != ToyFault::no_checksum) {
            continue;
        }
        if (!found || header.generation > generation_) {
            generation_ = header.generation;
            state_ = parse(body);
            found = true;
        }
    }
    return found ? Status() : fail(ErrorCode::not_an_image, "neither half is whole");
}

}  // namespace

StoreKind toy_store(ToyFault fault)
{
    StoreKind kind;
    kind.create = [fault](Disk& disk, const CreateOptions& options) -> Status {
        ToyStore store(disk, fault, false);
        NewVolume first;
        first.name = options.volume_name;
        first.size_bytes = options.volume_bytes;
        Result<VolumeId> made = store.create_volume(first);
        return made ? Status() : Status(pass_on(made));
    };
    kind.open = [fault](Disk& disk, const OpenOptions& options) -> Result<std::unique_ptr<Store>> {
        auto store = std::make_unique<ToyStore>(disk, fault, options.read_only);
        if (Status status = store->load(); !status) {
            return pass_on(status);
        }
        return std::unique_ptr<Store>(std::move(store));
    };
    return kind;
}

}  // namespace coppice::sim
