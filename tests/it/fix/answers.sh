*"new plan is needed"*)
    p=$(($(cat "$S/plans" 2>/dev/null || echo 0) + 1)); echo $p >"$S/plans"
    case $p in
    1) echo "HYPOTHESIS: operands arrive in a wrong order"; echo "DIFFERENT: swap both before anything else";;
    2) echo "HYPOTHESIS: rounding loses one unit each round"; echo "DIFFERENT: keep whole numbers until print time";;
    *) echo "HYPOTHESIS: idea $p concerns locale tables"; echo "DIFFERENT: set another environment there";;
    esac
    exit;;
esac
n=$(($(cat "$S/calls" 2>/dev/null || echo 0) + 1)); echo $n >"$S/calls"
