# last_iteration ROOT: the optimiser of the newest iteration that is whole. What was cut off while RELION wrote it lacks
# files, or has STAR files that do not end with the empty line behind a table.
last_iteration() {
    local optimiser file named
    while read -r optimiser; do
        mapfile -t named < <(grep -oE '[^ ]+_it[0-9]{3}_[a-z0-9_]+\.star' "$optimiser")
        for file in "$optimiser" "${named[@]}"; do
            if [ ! -s "$file" ] || [ -n "$(tail -n 1 "$file" | tr -d '[:space:]')" ]; then continue 2; fi
        done
        echo "$optimiser"
        return
    done < <(compgen -G "$1_it???_optimiser.star" | sort -r)
}
