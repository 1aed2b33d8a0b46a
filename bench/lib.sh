# lib.sh: what the benches by QEMU's programs share; sourced, with the bench's name as $bench.
fail() { echo "bench/$bench: $*" >&2; exit 1; }
usage() { echo "bench/$bench: $*" >&2; exit 2; }
need() { [ $# -ge 2 ] || usage "$1 needs a value; see --help"; }
positive() { # NUMBER…
    local number
    for number; do
        [[ $number =~ ^[1-9][0-9]*$ ]] || usage "'$number' is not a positive whole number"
    done
}
# Of the numbers on standard input, one a line.
median() { sort -n | awk '{ v[NR] = $1 } END { if (NR) print (NR % 2 ? v[(NR + 1) / 2] : int((v[NR / 2] + v[NR / 2 + 1]) / 2)) }'; }
# Bars for each row of NAME.dat (a heading, then a name and its figures) into NAME.png, where gnuplot is.
plot_bars() { # NAME TITLE NUMBER-OF-SERIES
    command -v gnuplot > "$1.plot.log" 2>&1 || return 0
    gnuplot > "$1.plot.log" 2>&1 <<PLOT || echo "bench/$bench: no plot: $(tail -n 1 "$1.plot.log")" >&2
set terminal pngcairo size 1200,620 font ",11"
set output "$1.png"
set title "$2" noenhanced
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.85 border -1
set logscale y
set grid ytics
set key outside top center horizontal
set xtics rotate by -25
plot for [c=2:$(($3 + 1))] "$1.dat" using c:xtic(1) title columnheader(c)
PLOT
}
