for class in 1 2; do
    in_image relion_star_handler --i Class3D/run_it0{{class3d_iterations}}_data.star --o Select/class$class.star \
        --select rlnClassNumber --minval $class --maxval $class
done
if [ "$(wc -l <Select/class1.star)" -ge "$(wc -l <Select/class2.star)" ]; then largest=1; else largest=2; fi
cp Select/class$largest.star Select/particles.star
