# Completion of coppice(1) for bash. Names of volumes, snapshots and trees come from the image on the
# command line.

# The first word behind the command that is no option, if it is a file.
_coppice_image()
{
    local word
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $word != -* && -f $word ]]; then
            printf '%s' "$word"
            return
        fi
    done
}

# Values of "name" in the JSON of a command, one on a line; wanted: true (snapshots) or false.
_coppice_names()
{
    local image wanted=$1
    image=$(_coppice_image)
    [[ -n $image ]] || return
    coppice info --json "$image" 2>/dev/null |
        awk -v wanted="$wanted" '/"name":/ { sub(/.*"name": "/, ""); sub(/",$/, ""); name = $0 }
            /"snapshot":/ { if (index($0, wanted)) print name }'
}

_coppice_trees()
{
    local image
    image=$(_coppice_image)
    [[ -n $image ]] && coppice dump trees "$image" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_coppice()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} part=${COMP_WORDS[2]} options
    COMPREPLY=()
    case $previous in
    --volume) mapfile -t COMPREPLY < <(compgen -W "$(_coppice_names false)" -- "$current"); return ;;
    --snapshot) mapfile -t COMPREPLY < <(compgen -W "$(_coppice_names true)" -- "$current"); return ;;
    --flush) mapfile -t COMPREPLY < <(compgen -W "durable ordered" -- "$current"); return ;;
    --lba) mapfile -t COMPREPLY < <(compgen -W "512 4096" -- "$current"); return ;;
    --journal) mapfile -t COMPREPLY < <(compgen -W "4M 16M 64M" -- "$current"); return ;;
    --name | --max-findings | --group) return ;;
    esac
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "create info snapshot clone delete set check map read write trim dump --help
            --version" -- "$current")
        return
    fi
    case $command in
    snapshot)
        if ((COMP_CWORD == 2)); then
            mapfile -t COMPREPLY < <(compgen -W "create list delete rollback --help" -- "$current")
            return
        fi
        options="--volume --json --help"
        [[ $part == list ]] && options+=" --force-share"
        [[ $part == create ]] && options+=" --group" ;;
    dump)
        if ((COMP_CWORD == 2)); then
            mapfile -t COMPREPLY < <(compgen -W "header superblock journal trees tree block --help" \
                -- "$current")
            return
        fi
        options="--json --force-share --help"
        [[ $part == journal ]] && options+=" --all --checksums" ;;
    set) options="--flush --group --volume --json --help" ;;
    create) options="--lba --flush --name --journal --force --json --help" ;;
    info) options="--json --force-share --help" ;;
    clone) options="--volume --json --help" ;;
    delete) options="--json --help" ;;
    check) options="--data --quiet --max-findings --json --force-share --help" ;;
    read) options="--volume --snapshot --force-share --help" ;;
    write) options="--volume --json --help" ;;
    trim) options="--json --help" ;;
    map) options="--volume --snapshot --json --force-share --help" ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    elif [[ -z $(_coppice_image) ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        compopt -o filenames 2>/dev/null
    else
        case $command-$part in
        snapshot-delete | snapshot-rollback | clone-*)
            mapfile -t COMPREPLY < <(compgen -W "$(_coppice_names true)" -- "$current") ;;
        delete-*) mapfile -t COMPREPLY < <(compgen -W "$(_coppice_names false)" -- "$current") ;;
        dump-tree) mapfile -t COMPREPLY < <(compgen -W "$(_coppice_trees)" -- "$current") ;;
        esac
    fi
}
complete -F _coppice coppice
