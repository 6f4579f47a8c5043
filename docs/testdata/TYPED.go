package assumed

var Name = arpc.NewMethod[struct{}, string]("/name")
