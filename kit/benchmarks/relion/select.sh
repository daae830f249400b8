in_image relion_star_printtable {{model}} data_model_classes rlnClassDistribution rlnEstimatedResolution rlnReferenceImage |
    awk '$1 >= {{least}} && ($2 <= {{worst}}) { print $1, NR, $3 }' | sort -rg | head -n {{best}} >{{job}}classes.txt
[ -s {{job}}classes.txt ] || { echo "{{job}}: no class of {{model}} passes the rule {{rule}}" >&2; exit 65; }
printf 'data_\n\nloop_\n_rlnReferenceImage #1\n' >{{job}}class_averages.star
parts=
while read -r _ class image; do
    in_image relion_star_handler --i {{data}} --o {{job}}class"$class".star \
        --select rlnClassNumber --minval "$class" --maxval "$class" </dev/null
    parts="$parts {{job}}class$class.star"
    echo "$image" >>{{job}}class_averages.star
done <{{job}}classes.txt
in_image relion_star_handler --combine --i "$parts" --o {{job}}particles.star
