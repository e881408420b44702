package futago

import "time"

// Role says what a user or token may do.
type Role string

// The roles, each including the ones below it.
const (
	RoleAdmin    Role = "admin"    // everything, users and tokens too
	RoleOperator Role = "operator" // settings
	RoleViewer   Role = "viewer"   // reading
)

// Allows reports whether r includes want.
func (r Role) Allows(want Role) bool {
	rank := map[Role]int{RoleViewer: 1, RoleOperator: 2, RoleAdmin: 3}
	return rank[r] > 0 && rank[r] >= rank[want]
}

// User is a person who signs in with a password.
type User struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// PasswordHash is an argon2id string in PHC form.
	PasswordHash string    `json:"password_hash"`
	CreatedAt    time.Time `json:"created_at"`
}

// Token is an API token. Only the hash of its secret is kept.
type Token struct {
	// ID is public: the part of the token before the dot.
	ID   string `json:"id"`
	Name string `json:"name"`
	Role Role   `json:"role"`
	// SecretHash is the SHA-256 of the secret part in hexadecimal; the secret
	// has 256 random bits, so that no slow hash is needed.
	SecretHash string    `json:"secret_hash"`
	CreatedBy  string    `json:"created_by"`
	CreatedAt  time.Time `json:"created_at"`
	// ExpiresAt is zero for a token that does not expire.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}
