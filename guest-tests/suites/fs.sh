# ext4 and XFS with a tree of real files, right away, after remount and in a second guest.
suite=fs
. "$(dirname "$0")/../lib.sh"

# The tree: real files of this machine, packed once on the host (9p is slow per file, and would
# measure only itself).
files=5000
[ "$COPPICE_LEVEL" != quick ] || files=500
tree=$build_root/guest-runs/tree-$files
if [ ! -s "$tree.sha256" ]; then
    (cd / && find usr/share usr/include usr/lib usr/bin -xdev -type f -size -200k -readable 2>/dev/null |
        LC_ALL=C sort | awk -v want=$files '{ line[NR] = $0 }
            END { step = NR / want; if (step < 1) step = 1; for (i = 1; i <= NR && n < want; i += step) { print line[int(i)]; n++ } }') > "$tree.list"
    tar -C / -cf "$tree.tar" -T "$tree.list" || exit 1
    (cd / && xargs -d '\n' sha256sum < "$tree.list") > "$tree.sha256.new" && mv "$tree.sha256.new" "$tree.sha256"
fi
[ "$(wc -l < "$tree.sha256")" = $files ] || fail tree "only $(wc -l < "$tree.sha256") files were found under /usr"
echo "# $files files, $(du -h "$tree.tar" | cut -f1)"

disk_create "$work/a" 1500M 512 && disk_create "$work/b" 1500M 4096 || { fail disks "cannot be created"; finish; }
disks=(--disk "file=$work/a,serial=fs-512,lba=512" --disk "file=$work/b,serial=fs-4096,lba=4096")
guest make "${disks[@]}" --time-limit 900 -- fs.sh make "$tree.tar" "$tree.sha256" fs-512 fs-4096
guest verify "${disks[@]}" --time-limit 900 -- fs.sh verify "$tree.tar" "$tree.sha256" fs-512 fs-4096
host_check check-512 disk_check "$work/a"
host_check check-4096 disk_check "$work/b"
finish
