select 'a''b', 'a'
'b', 'a''b', 'a' -- x'b', E'a'

'b\'' -- end