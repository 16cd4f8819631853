select	1
,2,3 -- afrom t -- b
